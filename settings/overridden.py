"""Settings of a training that another setting or the data leave without effect."""

from __future__ import annotations

from dataclasses import fields

from settings.train import TrainSettings


def without_effect(settings: TrainSettings, num_classes: int) -> list[str]:
    """Return a line for each changed setting that does nothing, with the reason."""
    onnx = settings.onnx or "onnx" in settings.model_formats
    rect = settings.rect and not settings.image_weights
    opset = onnx or "openvino" in settings.model_formats
    closed = 0 < settings.epochs <= settings.close_mosaic
    rules = (
        (rect, "mosaic mosaic9 mixup close_mosaic", "rect has batches without mosaics"),
        (settings.mosaic == 0, "mosaic9 mixup close_mosaic", "mosaic is 0"),
        (closed, "mosaic mosaic9 mixup", "close_mosaic leaves no epoch for mosaics"),
        (num_classes == 1, "cls cls_pw label_smoothing", "a single class has no class loss"),
        (not onnx, "onnx_nms onnx_half onnx_simplify", "no ONNX file is written"),
        (not opset, "opset", "no ONNX file is written"),
        (settings.noval, "patience", "noval evaluates the final epoch only"),
        (settings.nosave, "save_period", "nosave keeps the final checkpoint only"),
        (settings.image_weights, "rect", "image_weights draws the images one by one"),
        (True, "copy_paste", "it cuts objects out along their outlines, and these are boxes"),
    )
    changed = {
        item.name for item in fields(settings) if getattr(settings, item.name) != item.default
    }
    return [
        f"{name} has no effect: {reason}"
        for applies, names, reason in rules
        for name in names.split()
        if applies and name in changed
    ]
