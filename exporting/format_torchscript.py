"""TorchScript export.

The file takes images float32 [b, 3, h, w] of any batch and size (multiples of the largest stride)
and returns decoded rows float32 [b, rows, 5 + classes], on any device. The extra file `config.txt`
is JSON with shape, stride and names, as v7.0 writes it.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch

from exporting.neck_onnx import quiet_converters
from exporting.options import ExportOptions
from exporting.verify import Array, DecodedDetector, ExportFormat, Run
from models.detector import Detector

CONFIG = "config.txt"


def write(detector: Detector, path: Path, options: ExportOptions) -> None:
    """Trace the detector and write it."""
    module = DecodedDetector(detector, half=options.half).to(options.device)
    stride = detector.config.input_multiple
    shape = (options.batch_size, detector.config.channels, *options.size)
    config = {"shape": list(shape), "stride": stride, "names": dict(enumerate(options.class_names))}
    example = torch.zeros(1, shape[1], 4 * stride, 3 * stride, device=options.device)
    with quiet_converters(verbose=options.verbose), torch.no_grad():
        traced = torch.jit.trace(module, example, check_trace=False)
        torch.jit.save(traced, str(path), _extra_files={CONFIG: json.dumps(config)})


def run(path: Path, _: Detector, options: ExportOptions) -> Run:
    """Return the file on the device of the options as a function of arrays."""
    with quiet_converters(verbose=options.verbose):
        program = torch.jit.load(str(path), map_location=options.device)

    def predict(images: Array) -> Array:
        with torch.no_grad():
            rows: Array = program(torch.from_numpy(images).to(options.device)).cpu().numpy()
        return rows

    return predict


FORMAT = ExportFormat(".torchscript", write, run, free_shape=True)
