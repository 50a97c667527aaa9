"""Inference, mining and evaluation by other engines than torch find what torch finds."""

from __future__ import annotations

import csv
import json
import logging
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import detect
import start
import val
from inference.backends import choice
from inference.backends.base import Engine
from inference.predictor import Predictor, load_predictor
from ops.nms import NmsConfig
from settings.detect import InferSettings
from tests.mixed_example import small_predictor, write_mixed
from tools.check_out import check_out
from tools.make_task import write_task
from utils.errors import Code, TaskError

CPU = torch.device("cpu")
ENGINES = ("onnxruntime", "openvino")


@pytest.fixture(scope="module")
def paths(drawn, tmp_path_factory) -> list[str]:
    return write_mixed(drawn, tmp_path_factory.mktemp("mixed"))


def predictor(weights: Path, *, augment: bool = False) -> Predictor:
    thresholds = NmsConfig(confidence=0.001)
    return small_predictor(weights, thresholds, precision="float32", augment=augment)


def detections(one: Predictor, paths: list[str]) -> list[np.ndarray]:
    stream = one.stream(paths, batch_size=2, workers=1)
    return [found.detections for found in sorted(stream, key=lambda found: found.position)]


def found_in(some: np.ndarray, others: np.ndarray) -> float:
    """Share of rows that are among the others, in any order: equal scores have none."""
    distance = np.abs(some[:, None] - others[None]).max(-1)
    return float((distance.min(1, initial=np.inf) < 0.02).mean()) if len(some) else 1.0


@pytest.mark.parametrize("augment", [False, True], ids=["one look", "three looks"])
@pytest.mark.parametrize("name", ENGINES)
def test_the_same_detections_at_mixed_shapes(weights, paths, name, augment):
    pytest.importorskip(name, reason="the optional package is not installed")
    own = predictor(weights, augment=augment)
    expected = detections(own, paths)
    own.use_engine(name, paths, batch_size=2)
    assert own.looks.engine is not None
    assert sum(map(len, expected)) > 0
    for one, other in zip(detections(own, paths), expected, strict=True):
        assert found_in(one, other) >= 0.97
        assert found_in(other, one) >= 0.97


def test_raw_maps_and_backbone_are_there(weights, paths):
    """What ALDD and diverse mining ask for: raw maps from the engine, the backbone from torch."""
    pytest.importorskip("onnxruntime")
    own = predictor(weights)
    images = torch.randint(0, 256, (2, 3, 64, 96), dtype=torch.uint8)
    maps, rows = own.forward(images)
    backbone = own.backbone_map(images)
    own.use_engine("onnxruntime", paths, batch_size=2)
    again, more = own.forward(images)
    for one, other in zip([*again, more], [*maps, rows], strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-3)
    assert torch.equal(own.backbone_map(images), backbone)


def test_torch_again(weights, paths):
    pytest.importorskip("onnxruntime")
    own = predictor(weights)
    own.use_engine("onnxruntime", paths, batch_size=2)
    own.use_engine("torch", paths, batch_size=2)
    assert own.looks.engine is None


def wrong(trunk: Path, around: object) -> Engine:
    """An engine that sees nothing anywhere."""
    return Engine("wrong", "float32", lambda images: [one * 0 for one in around.empty_maps(images)])


def test_auto_falls_back_where_an_engine_disagrees(weights, paths, monkeypatch, caplog):
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(choice, "BACKENDS", dict.fromkeys(ENGINES, wrong))
    monkeypatch.setattr(choice, "installed", list)
    monkeypatch.setattr(choice, "seconds_an_image", lambda *_: 10.0)
    own = predictor(weights)
    expected = detections(own, paths)
    own.use_engine("auto", paths * 10, batch_size=2)
    assert own.looks.engine is None
    assert "without openvino: The engine openvino does not compute what torch does" in caplog.text
    assert "engine auto: torch; choosing took" in caplog.text
    for one, other in zip(detections(own, paths), expected, strict=True):
        assert np.array_equal(one, other)


def test_the_default_is_torch(weights):
    assert InferSettings().engine == "torch"
    assert load_predictor(weights, InferSettings(img_size=96), CPU).looks.engine is None


@pytest.mark.parametrize("program", ["infer", "val"])
def test_the_command_lines(weights, paths, data_yaml, tmp_path, program, capsys):
    pytest.importorskip("onnxruntime")
    words = ["--weights", str(weights), "--img", "96", "--engine", "onnxruntime"]
    if program == "infer":
        detect.main([*words, "--source", paths[0], "--output", str(tmp_path / "found.json")])
        assert (tmp_path / "found.json").is_file()
    else:
        val.main([*words, "--data", str(data_yaml)])
    assert "engine: onnxruntime in float32" in capsys.readouterr().out


def test_a_missing_package_ends_a_command_before_anything_is_written(
    weights, paths, tmp_path, monkeypatch
):
    monkeypatch.setitem(sys.modules, "openvino", None)
    words = ["--weights", str(weights), "--source", paths[0], "--img", "96", "--engine", "openvino"]
    with pytest.raises(TaskError, match="needs the package openvino") as caught:
        detect.main([*words, "--project", str(tmp_path / "runs")])
    assert caught.value.code is Code.CONFIG
    assert list(tmp_path.iterdir()) == []


def run_task(drawn, weights: Path, folder: Path, engine: str) -> Path:
    """A task of mining with inference, through the same door as on the platform."""
    settings = {"img_size": "96", "conf_thres": "0.001", "plots": "no", "precision": "float32"}
    env_file = write_task(
        drawn,
        folder,
        kinds=("mining", "infer"),
        settings={**settings, "engine": engine},
        weights=[weights],
        candidates="train",
    )
    assert start.main(["--env", str(env_file)]) == 0
    return folder


def scores(task: Path) -> dict[str, float]:
    with (task / "out" / "result.tsv").open(encoding="utf-8") as file:
        return {Path(name).name: float(score) for name, score in csv.reader(file, delimiter="\t")}


@pytest.mark.slow
@pytest.mark.parametrize("engine", ENGINES)
def test_a_whole_task(drawn, weights, tmp_path, engine):
    pytest.importorskip(engine, reason="the optional package is not installed")
    plain, other = (run_task(drawn, weights, tmp_path / name, name) for name in ("torch", engine))
    assert check_out(other) == []
    found = [
        json.loads((task / "out" / "infer-result.json").read_text())["detection"]
        for task in (plain, other)
    ]
    assert len(found[0]) == len(found[1]) > 0
    one, two = scores(plain), scores(other)
    assert one.keys() == two.keys()
    # A detection at the threshold may come or go in either.
    close = [abs(one[name] - two[name]) < 0.02 for name in one]
    assert np.mean(close) > 0.8


@pytest.mark.slow
@pytest.mark.parametrize("name", ENGINES)
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_photographs(shared, name, precision):
    """The trained reference network on photographs: agreement, and the same number of objects."""
    pytest.importorskip(name, reason="the optional package is not installed")
    settings = InferSettings(img_size=320, precision=precision)
    own = load_predictor(shared / "reference/bccd_yolov5n.pt", settings, CPU)
    photographs = sorted(map(str, (shared / "data/bccd/JPEGImages").glob("*.jpg")))[:12]
    expected = sum(map(len, detections(own, photographs)))
    own.use_engine(name, photographs, batch_size=2)
    assert own.looks.engine is not None
    found = sum(map(len, detections(own, photographs)))
    assert expected > 100
    assert abs(found - expected) <= 0.03 * expected
