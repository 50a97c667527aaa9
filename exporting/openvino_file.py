"""The network as an OpenVINO model (`.xml` with `.bin` beside it), and the model as a function.

Input and output are those of the ONNX file, from which it is converted. With `half` the weights
are stored in float16, and computed with in float32. The optional package is `openvino`.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from exporting.onnx_file import metadata_of, write_onnx
from exporting.options import ExportOptions
from exporting.verify import Array, Run
from models.detector import Detector
from utils.errors import optional_package

PURPOSE = "Writing OpenVINO models"


def write_openvino(detector: Detector, path: Path, options: ExportOptions) -> None:
    """Write the detector, which is left as it is, to `path` (.xml), the weights beside it (.bin).

    Metadata are the entries of the ONNX file, below `rt_info/model_info`. TaskError(CONFIG) when
    the package is missing.
    """
    openvino = optional_package("openvino", purpose=PURPOSE)
    between = path.with_suffix(".onnx")
    write_onnx(detector, between, replace(options, half=False))
    # The reader of the core, and not `convert_model`, which would report its use over the network.
    model = openvino.Core().read_model(str(between))
    for key, value in metadata_of(options, detector.config.input_multiple).items():
        model.set_rt_info(value, ["model_info", key])
    openvino.save_model(model, str(path), compress_to_fp16=options.half)
    del model
    between.unlink()


def run_openvino(path: Path, options: ExportOptions) -> Run:
    """The model on OpenVINO's CPU device in float32, as a function from images to decoded rows."""
    openvino = optional_package("openvino", purpose=PURPOSE)
    # Where the processor has bfloat16 OpenVINO would use it, which is no fault of the file.
    compiled = openvino.Core().compile_model(str(path), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})

    def run(images: Array) -> Array:
        rows: Array = compiled([images])[0].copy()
        return rows

    return run
