"""Options of an export: formats by name, and properties of the file."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

from ops.nms import NmsConfig
from settings.train import EXPORT_FORMATS
from utils.errors import Code, TaskError

NOT_WRITTEN = {
    "engine": "write onnx, and build the TensorRT engine from it on the machine that will run it "
    "(trtexec --onnx=best.onnx)",
    "coreml": "write torchscript or onnx, and convert that with coremltools on a Mac",
    **dict.fromkeys(("saved_model", "pb", "tflite"), "write onnx, and convert that with onnx2tf"),
    "edgetpu": "write onnx, convert that with onnx2tf, and compile the result for the Edge TPU",
    "tfjs": "write onnx, and run that in the browser with ONNX Runtime Web",
    "paddle": "write onnx, and convert that with x2paddle",
}
"""Formats of v7.0 that are not written here, and what to do instead."""


@dataclass(frozen=True)
class ExportOptions:
    """Properties of an exported file.

    `size` is (height, width) in pixels, multiples of the largest stride. An ONNX or OpenVINO file
    takes `batch_size` images of it, for OpenCV 4 reads no other; a `dynamic` one takes any batch
    and size, as the other formats do, and `size` is only recorded. `half` stores float16 weights.
    `opset`, `simplify` and `nms` concern ONNX alone. The network that the file is compared with
    runs on `device`.
    """

    class_names: tuple[str, ...]
    size: tuple[int, int] = (640, 640)
    dynamic: bool = False
    batch_size: int = 1
    half: bool = False
    opset: int = 17
    simplify: bool = False
    nms: NmsConfig | None = None
    verbose: bool = False
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))


def check_options(form: str, options: ExportOptions) -> None:
    """Raise TaskError (config) for an unknown format or options that the format cannot have."""
    if form in NOT_WRITTEN:
        raise TaskError(Code.CONFIG, f"The format {form} is not written here: {NOT_WRITTEN[form]}.")
    if form not in EXPORT_FORMATS:
        known = ", ".join(EXPORT_FORMATS)
        raise TaskError(Code.CONFIG, f"The format {form} is not known; choose among {known}.")
    if form != "onnx" and options.nms is not None:
        raise TaskError(
            Code.CONFIG,
            f"NMS is put into ONNX files only, not into {form}: choose onnx, or leave nms out and "
            "run NMS on the decoded rows where the file is used.",
        )
    if form == "onnx" and options.simplify and options.half:
        raise TaskError(
            Code.CONFIG,
            "An ONNX file cannot be both simplified and half: ONNX Runtime, which simplifies it, "
            "would put conversions to float32 around every layer; choose one of the two.",
        )
