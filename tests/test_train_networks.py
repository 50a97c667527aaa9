"""Whole trainings of other networks than the sizes n to x: what is kept, and what is refused."""

from __future__ import annotations

from pathlib import Path

import onnxruntime
import pytest
import yaml

import start
from models.checkpoint import build_detector, load_checkpoint
from models.model_config import read_model_config
from tests.conftest import TINY_TRAINING
from tools.make_task import write_task
from tools.sources import SourceDataset


@pytest.mark.slow
def test_a_graph_of_ones_own_with_another_activation(drawn: SourceDataset, tmp_path: Path) -> None:
    """A narrow yolov5-p34: levels of strides 8 and 16 above a backbone of stride 32."""
    definition = read_model_config("yolov5-p34").definition
    model = tmp_path / "mine.yaml"
    sizes = [[10, 13, 16, 30, 33, 23], [30, 61, 62, 45, 59, 119]]
    model.write_text(yaml.safe_dump({**definition, "width_multiple": 0.125, "anchors": sizes}))
    settings = {**TINY_TRAINING, "epochs": 1, "model": model, "activation": "nn.LeakyReLU(0.1)"}
    task = tmp_path / "task"
    env_file = write_task(
        drawn, task, kinds=("training",), settings={k: str(v) for k, v in settings.items()}
    )
    assert start.main(["--env", str(env_file)]) == 0
    best = task / "out" / "models" / "best"
    detector = build_detector(load_checkpoint(best / "best.pt"))
    assert str(detector.config.activation) == "nn.LeakyReLU(0.1)"
    session = onnxruntime.InferenceSession(best / "best.onnx", providers=["CPUExecutionProvider"])
    assert session.get_modelmeta().custom_metadata_map["stride"] == "32"


def test_a_network_without_anchors_ends_in_a_sentence(drawn: SourceDataset, tmp_path: Path) -> None:
    task = tmp_path / "task"
    env_file = write_task(
        drawn,
        task,
        kinds=("training",),
        settings={**TINY_TRAINING, "model": "yolov5-p34", "noautoanchor": "True"},
    )
    assert start.main(["--env", str(env_file)]) != 0
    told = (task / "out" / "monitor.txt").read_text()
    assert "noautoanchor is set, but the model has no anchors of its own" in told
    assert not list((task / "out").rglob("*.pt"))
