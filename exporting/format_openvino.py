"""OpenVINO export: `.xml` with `.bin` beside it, converted from the ONNX file.

Input and output are those of the ONNX file. With `half` the weights are stored in float16, and
computed with in float32. The optional package is `openvino`.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from exporting import format_onnx
from exporting.options import ExportOptions
from exporting.verify import ExportFormat, Run
from models.detector import Detector
from utils.errors import optional_package

PURPOSE = "Writing OpenVINO models"
EXACT = {"INFERENCE_PRECISION_HINT": "f32"}
"""Without it OpenVINO computes in bfloat16 where the processor has it, and no file can say so."""


def write(detector: Detector, path: Path, options: ExportOptions) -> None:
    """Write the model to `path` (.xml) and its weights beside it (.bin).

    Metadata are the entries of the ONNX file and `EXACT`, below `rt_info/model_info`. TaskError
    (config) when the package is missing.
    """
    openvino = optional_package("openvino", purpose=PURPOSE)
    between = path.with_suffix(".onnx")
    format_onnx.write(detector, between, replace(options, half=False))
    # The reader of the core, and not `convert_model`, which would report its use over the network.
    model = openvino.Core().read_model(str(between))
    metadata = format_onnx.metadata_of(options, detector.config.input_multiple)
    for key, value in {**metadata, **EXACT}.items():
        model.set_rt_info(value, ["model_info", key])
    openvino.save_model(model, str(path), compress_to_fp16=options.half)
    del model
    between.unlink()


def run(path: Path, _: Detector, options: ExportOptions) -> Run:
    """Return the model on OpenVINO's CPU device in float32 as a function of arrays."""
    openvino = optional_package("openvino", purpose=PURPOSE)
    compiled = openvino.Core().compile_model(str(path), "CPU", EXACT)
    return lambda images: compiled([images])[0].copy()


FORMAT = ExportFormat(
    ".xml",
    write,
    run,
    advice=f"compile it with {EXACT}, or OpenVINO computes in bfloat16 where the processor has it",
)
