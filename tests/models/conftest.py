"""A network small enough to build and run in every test."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from models.detector import Detector
from models.layout import parse_layout

TINY = {
    "nc": 3,
    "depth_multiple": 1.0,
    "width_multiple": 1.0,
    "anchors": [[10, 13, 16, 30], [60, 50, 90, 120]],
    "backbone": [
        [-1, 1, "Conv", [8, 6, 2, 2]],
        [-1, 1, "Conv", [8, 3, 2]],
        [-1, 1, "C3", [8]],
        [-1, 1, "Conv", [16, 3, 2]],
        [-1, 1, "SPPF", [16, 5]],
    ],
    "head": [
        [-1, 1, "Conv", [8, 1, 1]],
        [-1, 1, "nn.Upsample", ["None", 2, "nearest"]],
        [[-1, 2], 1, "Concat", [1]],
        [-1, 1, "C3", [8, False]],
        [[8, 4], 1, "Detect", ["nc", "anchors"]],
    ],
}


@pytest.fixture
def tiny() -> Callable[..., Detector]:
    """Build the tiny network (strides 4 and 8, two anchors each), with lively statistics."""

    def build(nc: int = 3, seed: int = 0) -> Detector:
        torch.manual_seed(seed)
        detector = Detector(parse_layout(TINY, nc))
        for module in detector.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                assert module.running_mean is not None
                assert module.running_var is not None
                module.running_mean.normal_(0, 0.2)
                module.running_var.uniform_(0.5, 2)
        return detector

    return build


@pytest.fixture
def tiny_definition() -> dict[str, object]:
    """The tiny network as a model definition."""
    return dict(TINY)
