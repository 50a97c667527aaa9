"""Settings that do nothing are named, each with its reason."""

from __future__ import annotations

import pytest

from settings.overridden import without_effect
from settings.train import TrainSettings


@pytest.mark.parametrize(
    ("changes", "classes", "lines"),
    [
        ({}, 2, []),
        ({}, 1, []),
        ({"onnx": False}, 2, []),
        ({"rect": True, "mixup": 0.1}, 2, ["mixup has no effect: rect has batches"]),
        (
            {"rect": True, "mixup": 0.1, "image_weights": True},
            2,
            ["rect has no effect: image_weights draws"],
        ),
        ({"mosaic": 0.0, "mosaic9": 0.5}, 2, ["mosaic9 has no effect: mosaic is 0"]),
        (
            {"epochs": 3, "close_mosaic": 5, "mixup": 0.5},
            2,
            ["mixup has no effect: close_mosaic leaves no epoch"],
        ),
        ({"cls": 0.3}, 1, ["cls has no effect: a single class"]),
        ({"onnx": False, "opset": 16}, 2, ["opset has no effect: no ONNX file"]),
        ({"onnx": False, "opset": 16, "model_formats": ("openvino",)}, 2, []),
        ({"onnx": False, "onnx_nms": True, "model_formats": ("onnx",)}, 2, []),
        ({"noval": True, "patience": 7}, 2, ["patience has no effect: noval"]),
        ({"nosave": True, "save_period": 1}, 2, ["save_period has no effect: nosave"]),
        ({"copy_paste": 0.1}, 2, ["copy_paste has no effect: it cuts objects out"]),
    ],
)
def test_what_has_no_effect(changes, classes, lines):
    found = without_effect(TrainSettings(**changes), classes)
    assert [line[: len(start)] for line, start in zip(found, lines, strict=True)] == lines
