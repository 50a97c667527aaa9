"""A network twice as wide computes the same."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from bench.widened import fitted
from models.checkpoint import Checkpoint, CheckpointMetadata, build_detector, checkpoint_of
from models.detector import Detector
from models.model_config import read_model_config
from utils.errors import Code, TaskError


@pytest.fixture(scope="module")
def narrow() -> Checkpoint:
    """A yolov5n whose normalisations are not those of birth."""
    torch.manual_seed(0)
    detector = Detector(read_model_config("yolov5n", nc=3))
    for module in detector.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None
            nn.init.uniform_(module.running_mean, -0.1, 0.1)
            nn.init.uniform_(module.weight, 0.8, 1.2)
    return checkpoint_of(detector, ("a", "b", "c"), CheckpointMetadata(epoch=7))


def test_wide_network_computes_the_same(narrow: Checkpoint) -> None:
    wide = fitted(narrow, "yolov5s")
    images = torch.rand(2, 3, 64, 96)
    outputs = [build_detector(own).eval().predict(images) for own in (narrow, wide)]
    assert outputs[1].shape == outputs[0].shape
    torch.testing.assert_close(outputs[1], outputs[0], rtol=1e-4, atol=1e-4)
    size = [sum(value.numel() for value in own.state.values()) for own in (narrow, wide)]
    assert size[1] > 3.5 * size[0]
    assert (wide.class_names, wide.metadata) == (narrow.class_names, narrow.metadata)


def test_weights_of_the_model_itself_pass_as_they_are(narrow: Checkpoint) -> None:
    assert fitted(narrow, "yolov5n") is narrow


@pytest.mark.parametrize(
    ("model", "reason"), [("yolov5m", "other layers"), ("yolov5n6", "other layers")]
)
def test_other_networks_are_refused(narrow: Checkpoint, model: str, reason: str) -> None:
    with pytest.raises(TaskError, match=reason) as caught:
        fitted(narrow, model)
    assert caught.value.code == Code.MODEL


def test_four_times_as_wide_is_refused(narrow: Checkpoint) -> None:
    wide = fitted(narrow, "yolov5s")
    with pytest.raises(TaskError, match="channels instead of"):
        fitted(wide, "yolov5n")
