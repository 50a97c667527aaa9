"""A small yolov5n that sees something, and the options of its exports."""

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
"""A network for what is not about the network: it is written in a moment."""


def lively(detector: Detector, seed: int = 0) -> Detector:
    """The detector with drawn statistics, and biases with which a picture has many detections."""
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


@pytest.fixture(scope="session")
def detector() -> Detector:
    torch.manual_seed(0)
    return lively(Detector(read_model_config("yolov5n", 3)))


@pytest.fixture(scope="session")
def other() -> Detector:
    torch.manual_seed(1)
    return lively(Detector(read_model_config("yolov5n", 3)), seed=1)


@pytest.fixture
def small() -> Detector:
    return lively(Detector(parse_model_config(THREE_LAYERS)))


@pytest.fixture
def plain() -> ExportOptions:
    return ExportOptions(NAMES, size=(128, 128))
