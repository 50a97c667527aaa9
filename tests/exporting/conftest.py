"""Two narrow yolov5n with many detections, a network of three layers, options of their exports."""

from __future__ import annotations

import pytest
import torch

from exporting.options import ExportOptions
from models.detector import Detector
from models.model_config import parse_model_config, read_model_config

NAMES = ("it's", "dog", "owl")

THREE_LAYERS = {
    **{"nc": 3, "depth_multiple": 1.0, "width_multiple": 1.0, "anchors": [[10, 13]]},
    "backbone": [[-1, 1, "Conv", [8, 6, 2, 2]], [-1, 1, "C3", [8]]],
    "head": [[[1], 1, "Detect", ["nc", "anchors"]]],
}
"""For what is not about the network: written in a moment."""


def lively(detector: Detector, seed: int = 0) -> Detector:
    """Give the detector random statistics, and biases with which an image has many detections."""
    generator = torch.Generator().manual_seed(seed)
    for module in detector.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1, generator=generator)
            module.running_var.uniform_(0.5, 1.5, generator=generator)
    for convolution in detector.head.m:
        bias = convolution.bias.data.view(-1, detector.nc + 5)
        bias[:, 4] = 1.0
        bias[:, 5:] = torch.tensor([0.5, 0.6, 0.4])
        convolution.weight.data.mul_(6)
    return detector


def narrow(seed: int) -> Detector:
    torch.manual_seed(seed)
    definition = {**read_model_config("yolov5n").definition, "width_multiple": 0.125}
    return lively(Detector(parse_model_config(definition, 3)), seed)


@pytest.fixture(scope="session")
def detector() -> Detector:
    return narrow(0)


@pytest.fixture(scope="session")
def other() -> Detector:
    return narrow(1)


@pytest.fixture
def small() -> Detector:
    return lively(Detector(parse_model_config(THREE_LAYERS)))


@pytest.fixture
def plain() -> ExportOptions:
    return ExportOptions(NAMES, size=(128, 128), dynamic=True)
