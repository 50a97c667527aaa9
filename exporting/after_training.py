"""The exports that go with a training's weights: each file is listed, or the log says why not."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from exporting.export import FORMATS, export
from exporting.options import ExportOptions
from models.detector import Detector
from ops.nms import NmsConfig
from settings.train import TrainSettings
from utils.errors import TaskError

log = logging.getLogger(__name__)


def export_beside(
    weights: Path,
    detector: Detector,
    *,
    settings: TrainSettings,
    class_names: Sequence[str],
    image_size: int,
) -> list[Path]:
    """Write the formats that the settings ask for beside `weights`; the files that came out.

    `detector` is the unfused network with those weights. A format that cannot be written, or
    disagrees with the network, is a warning: the weights themselves are reported already.
    """
    wanted = (["onnx"] if settings.onnx else []) + list(settings.model_formats)
    files: list[Path] = []
    for form in dict.fromkeys(wanted):
        target = weights.with_name(weights.stem + FORMATS[form].ending)
        options = options_of(form, settings, class_names=class_names, image_size=image_size)
        try:
            done = export(detector, form, path=target, options=options)
        except (TaskError, OSError) as error:
            log.warning("%s was not written, the weights are kept: %s", target.name, error)
        else:
            log.info("%s agrees with the network within %.1e", target.name, done.difference)
            files += done.files
    return files


def options_of(
    form: str, settings: TrainSettings, *, class_names: Sequence[str], image_size: int
) -> ExportOptions:
    """How a file is to be: any batch and size; the `onnx_` settings concern ONNX alone."""
    onnx = form == "onnx"
    # The thresholds are those of inference: the training's own are meant for measuring.
    nms = NmsConfig(max_detections=settings.max_det)
    return ExportOptions(
        class_names=tuple(class_names),
        size=(image_size, image_size),
        opset=settings.opset,
        half=onnx and settings.onnx_half,
        simplify=onnx and settings.onnx_simplify,
        nms=nms if onnx and settings.onnx_nms else None,
    )
