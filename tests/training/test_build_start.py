"""Which network a training starts from, and what it says about that."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import torch
import yaml

from models.checkpoint import checkpoint_of, save_checkpoint
from models.detector import Detector
from models.model_config import read_model_config
from training.build import starting_network
from utils.errors import Code, TaskError

NAMES = ("cat", "dog")


@pytest.fixture
def pretrained(tmp_path: Path) -> Path:
    torch.manual_seed(1)
    path = tmp_path / "best.pt"
    save_checkpoint(path, checkpoint_of(Detector(read_model_config("yolov5n", 2)), NAMES))
    return path


def test_from_scratch(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    network = starting_network("yolov5n", None, NAMES)
    assert network.nc == 2
    assert "no weights given: yolov5n is trained from scratch" in caplog.text


def test_the_network_of_the_weights_and_a_table(
    pretrained: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The default model is another one; without a model file the weights say what is built."""
    caplog.set_level(logging.INFO)
    network = starting_network("yolov5s", pretrained, ("dog", "emu"))
    assert network.model[0].conv.weight.shape[0] == 16
    assert "349 of 349 tensors taken" in caplog.text
    assert "class dog <- dog" in caplog.text
    assert "class emu <- (fresh)" in caplog.text
    assert "left behind: cat" in caplog.text
    assert "Anchors: those of the weights." in caplog.text


def test_the_start_takes_no_random_numbers_for_checking(pretrained: Path) -> None:
    """A seeded training draws its fresh head from the same numbers as ever."""
    torch.manual_seed(5)
    starting_network("yolov5n", pretrained, NAMES)
    after = torch.rand(3)
    torch.manual_seed(5)
    Detector(read_model_config("yolov5n", 2))
    assert torch.equal(torch.rand(3), after)


def _model_file(folder: Path, **changes: object) -> Path:
    definition = {**read_model_config("yolov5n", 2).definition, **changes}
    path = folder / "mine.yaml"
    path.write_text(yaml.safe_dump(definition), encoding="utf-8")
    return path


def test_a_model_file_has_its_own_anchors(
    pretrained: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    anchors = [[4, 5, 6, 7, 8, 9], [14, 15, 16, 17, 18, 19], [44, 45, 46, 47, 48, 49]]
    path = _model_file(tmp_path, anchors=anchors)
    network = starting_network(str(path), pretrained, NAMES)
    pixels = network.anchors * network.stride.view(-1, 1, 1)
    torch.testing.assert_close(pixels.flatten(1), torch.tensor(anchors, dtype=torch.float32))
    assert "Anchors: those that the task sets" in caplog.text
    assert "348 of 349 tensors taken" in caplog.text


def test_a_model_file_of_another_architecture(pretrained: Path, tmp_path: Path) -> None:
    path = _model_file(tmp_path, width_multiple=0.5)
    with pytest.raises(TaskError, match="choose the model") as caught:
        starting_network(str(path), pretrained, NAMES)
    assert caught.value.code is Code.MODEL


def test_anchors_that_the_task_sets(pretrained: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    starting_network("yolov5n", pretrained, NAMES, anchors=3)
    assert "Anchors: those that the task sets" in caplog.text
