"""The network that a training starts from: its size in the log, its activation, its anchors."""

from __future__ import annotations

import logging

import pytest
import torch

from models.checkpoint import checkpoint_of, load_checkpoint, save_checkpoint
from models.detector import Detector
from models.model_config import read_model_config
from settings.parse import parse_settings
from settings.train import TrainSettings
from training.build import criterion, starting_network
from utils.errors import Code, TaskError

NAMES = ("cat", "owl", "dog")


def test_the_size_is_told_in_one_line(caplog):
    with caplog.at_level(logging.INFO):
        starting_network("yolov5n", None, NAMES)
    assert "yolov5n: 214 layers, 1.77 M parameters, 4.2 GFLOPs at 640 px" in caplog.messages


@pytest.mark.parametrize("activation", ["", "nn.LeakyReLU(0.1)"])
def test_the_setting_replaces_the_activation(activation, tmp_path):
    settings, warnings = parse_settings(TrainSettings, {"activation": activation})
    assert warnings == []
    network = starting_network("yolov5n", None, NAMES, activation=settings.activation)
    assert str(network.config.activation) == (activation or "nn.SiLU()")
    save_checkpoint(tmp_path / "best.pt", checkpoint_of(network, NAMES))
    # Weights bring their own activation, which the setting may replace again.
    again = starting_network("yolov5s", tmp_path / "best.pt", NAMES)
    assert again.config.activation == network.config.activation
    other = starting_network("yolov5s", tmp_path / "best.pt", NAMES, activation="nn.Mish()")
    assert str(other.config.activation) == "nn.Mish()"
    assert load_checkpoint(tmp_path / "best.pt").definition.get("activation", "") == activation


def test_an_unknown_activation_is_refused():
    with pytest.raises(TaskError, match="activation 'Swish' is not one of SiLU, ReLU") as caught:
        starting_network("yolov5n", None, NAMES, activation="Swish")
    assert caught.value.code is Code.CONFIG


def test_placeholder_anchors_are_refused_until_they_are_fitted():
    """Defect 20 of v7.0: with its anchor fit switched off it trained on anchors without a width."""
    network = Detector(read_model_config("yolov5-p34", nc=3))
    settings = TrainSettings()
    with pytest.raises(TaskError, match=r"anchors: 3.*list the widths and heights") as caught:
        criterion(settings, network, 640)
    assert caught.value.code is Code.CONFIG
    network.anchors.copy_(torch.tensor([[1.0, 1.5], [2.0, 2.0], [3.5, 3.0]]))
    assert criterion(settings, network, 640).anchors.shape == (2, 3, 2)
