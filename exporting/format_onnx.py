"""ONNX export.

Input `images`: float32 [b, 3, h, w], RGB from 0 to 1, h and w multiples of the largest stride.
Output `output0`: float32 [b, rows, 5 + classes]: cx, cy, w, h in input pixels, objectness, class
probabilities; with NMS `detections` instead (`exporting/onnx_nms.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import onnx
import onnxruntime
import torch
from torch import Tensor, nn

from exporting.neck_onnx import INPUT, quiet_converters, trace_onnx
from exporting.onnx_nms import DETECTIONS, ROWS, append_nms, check_nms, with_open_thresholds
from exporting.options import ExportOptions
from exporting.verify import Array, DecodedDetector, ExportFormat, Run
from models.detector import Detector

LAST_TRACED_OPSET = 20
"""Last operator set of torch's tracing exporter, which takes a second; the other takes thirty."""


def write(detector: Detector, path: Path, options: ExportOptions) -> None:
    """Write the detector with `metadata_of`; raises whatever torch's exporters raise."""
    module = DecodedDetector(detector, half=options.half).cpu()
    stride = detector.config.input_multiple
    # Sides that differ, for an exporter may take equal sizes for one and the same.
    shape = (2, 4 * stride, 3 * stride) if options.dynamic else (options.batch_size, *options.size)
    example = torch.zeros(shape[0], detector.config.channels, *shape[1:])
    if options.opset <= LAST_TRACED_OPSET:
        chosen = {"dynamic": options.dynamic, "verbose": options.verbose}
        axes = {ROWS: {0: "batch", 1: "rows"}}
        trace_onnx(module, example, path, axes, opset=options.opset, **chosen)
    else:
        with quiet_converters(verbose=options.verbose):
            _capture(module, example, path, options, stride)
    model = onnx.load(path)
    # OpenCV 4 cannot follow shapes that are computed; in a fixed file they fold to constants.
    if options.simplify or not (options.dynamic or options.half):
        model = _simplified(model, path)
    if options.nms is not None:
        model = append_nms(model, options.nms)
    onnx.helper.set_model_props(model, metadata_of(options, stride))
    onnx.checker.check_model(model)
    onnx.save(model, path)


def run(path: Path, _: Detector, options: ExportOptions) -> Run:
    """Return the file in ONNX Runtime on the CPU as a function from images to decoded rows.

    Where the file has NMS, every run also checks that (`check_nms`).
    """
    nms = options.nms
    if nms is None:
        plain = _session(str(path))
        return lambda images: plain.run([ROWS], {INPUT: images})[0]
    session = _session(with_open_thresholds(onnx.load(path)).SerializeToString())

    def detect(images: Array, thresholds: Mapping[str, Array]) -> tuple[Array, Array]:
        rows, found = session.run([ROWS, DETECTIONS], {INPUT: images, **thresholds})
        return rows, found

    return lambda images: check_nms(detect, images, nms)


def metadata_of(options: ExportOptions, stride: int) -> dict[str, str]:
    """Return the metadata of a file: 'stride' (the largest) and 'names' as v7.0 reads them.

    'imgsz' is [h, w]; 'precision' and 'nms' are there where the file differs from the plain one.
    """
    metadata = {
        "stride": str(stride),
        "names": str(dict(enumerate(options.class_names))),
        "imgsz": str(list(options.size)),
    }
    if options.half:
        metadata["precision"] = "float16 weights, float32 input and output"
    if options.nms is not None:
        names = ("confidence", "iou", "max_detections", "class_agnostic")
        metadata["nms"] = str({name: getattr(options.nms, name) for name in names})
    return metadata


def _capture(
    module: nn.Module, example: Tensor, path: Path, options: ExportOptions, stride: int
) -> None:
    rows, columns = (torch.export.Dim(name, min=2, max=256) for name in ("rows", "columns"))
    free = {0: torch.export.Dim("batch", min=1, max=4096), 2: stride * rows, 3: stride * columns}
    program = torch.onnx.export(
        module,
        (example,),
        dynamo=True,
        opset_version=options.opset,
        input_names=[INPUT],
        output_names=[ROWS],
        dynamic_shapes=(free,) if options.dynamic else None,
        verbose=options.verbose,
    )
    assert program is not None
    program.save(str(path))


def _simplified(model: onnx.ModelProto, path: Path) -> onnx.ModelProto:
    """Return the model after ONNX Runtime's basic rewrites, such as folded constants."""
    target = path.with_name("simplified.onnx")
    _session(str(path), optimized=target)
    simplified = onnx.load(target)
    target.unlink()
    # ONNX Runtime also lists operator sets of its own, without using them.
    used = {node.domain for node in simplified.graph.node}
    sets = [entry for entry in simplified.opset_import if entry.domain in used]
    del simplified.opset_import[:]
    simplified.opset_import.extend(sets)
    simplified.ir_version = model.ir_version
    return simplified


def _session(model: str | bytes, *, optimized: Path | None = None) -> onnxruntime.InferenceSession:
    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = 3
    if optimized is not None:
        settings.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
        settings.optimized_model_filepath = str(optimized)
    return onnxruntime.InferenceSession(model, settings, providers=["CPUExecutionProvider"])


FORMAT = ExportFormat(".onnx", write, run)
