"""Export of a detector in one of the registered formats, with its parity check.

A format <name> is a file `exporting/format_<name>.py` with its `FORMAT`; `settings.train` offers it
by its file name.
"""

from __future__ import annotations

import importlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from exporting.options import ExportOptions, check_options
from exporting.verify import ExportFormat, ParityError, max_difference
from models.detector import Detector
from ops.nms import NmsConfig
from settings.train import EXPORT_FORMATS, TrainSettings
from utils.atomic import fitting_name, replace_file, scratch_beside
from utils.errors import Code, TaskError, first_line

log = logging.getLogger(__name__)


FORMATS: dict[str, ExportFormat] = {
    name: importlib.import_module(f"{__package__}.format_{name.replace('-', '_')}").FORMAT
    for name in EXPORT_FORMATS
}
"""By the choices of the option --include and the setting `model_formats`."""


@dataclass(frozen=True)
class Exported:
    """Files of an export, the one to open first, and the largest difference of any output."""

    files: tuple[Path, ...]
    difference: float


def export(detector: Detector, form: str, *, path: Path, options: ExportOptions) -> Exported:
    """Write an unfused detector in one format and verify the file; the detector stays as it is.

    The file appears at `path` (OpenVINO: also `.bin`) once it is verified, replacing an older one
    atomically. Raises `TaskError`: config for what the format cannot do, model for a file that
    cannot be written or fails the parity check, in which case nothing new is there.
    """
    check_options(form, options)
    path = Path(path)
    with scratch_beside(path) as folder:
        written = folder / path.name
        _write(detector, form, written, options)
        difference = verify(detector, form, path=written, options=options, name=path)
        # The file to open appears last, when all that it needs is there.
        made = sorted(folder.iterdir(), key=lambda file: file != written)
        for file in reversed(made):
            with replace_file(path.with_name(file.name)) as temporary:
                file.replace(temporary)
    return Exported(tuple(path.with_name(file.name) for file in made), difference)


def verify(
    detector: Detector, form: str, *, path: Path, options: ExportOptions, name: Path | None = None
) -> float:
    """Run a file of one format and the detector on the same images; return the largest difference.

    `name` is the file's name in an error. Raises `TaskError` (model) when the file cannot be run,
    or a difference is beyond rounding (`exporting/verify.py`).
    """
    shown = name or path
    if FORMATS[form].free_shape:
        options = replace(options, dynamic=True)
    try:
        return max_difference(FORMATS[form].run(path, detector, options), detector, options)
    except ParityError as error:
        raise TaskError(
            Code.MODEL,
            f"The {form} file {shown} does not compute what the network does ({error}): it must "
            "not be used; keep the .pt file.",
        ) from error
    except TaskError:
        raise
    # Every runtime has exceptions of its own.
    except Exception as error:
        raise TaskError(
            Code.MODEL,
            f"The {form} file {shown} cannot be run ({first_line(error)}); keep the .pt file.",
        ) from error


def _write(detector: Detector, form: str, path: Path, options: ExportOptions) -> None:
    try:
        FORMATS[form].write(detector, path, options)
    except (TaskError, OSError):
        raise
    # The exporters raise many kinds, and none of them says more than that it did not work.
    except Exception as error:
        by_onnx = form in ("onnx", "openvino")
        named = f"{form} opset {options.opset}" if by_onnx else form
        advice = "try opset 17" if by_onnx else "the .pt file is not affected"
        sentence = f"The network cannot be exported to {named} ({first_line(error)}); {advice}."
        raise TaskError(Code.MODEL, sentence) from error


def export_after_training(
    weights: Path,
    detector: Detector,
    *,
    settings: TrainSettings,
    class_names: Sequence[str],
    image_size: int,
) -> list[Path]:
    """Write the formats that the settings ask for next to `weights`; return the files.

    `detector` is the unfused network with those weights. A format that fails is a warning: the
    weights themselves are reported already.
    """
    wanted = (["onnx"] if settings.onnx else []) + list(settings.model_formats)
    files: list[Path] = []
    for form in dict.fromkeys(wanted):
        target = weights.with_name(fitting_name(weights.parent, weights.stem, FORMATS[form].suffix))
        onnx = form == "onnx"
        # The thresholds are those of inference: the training's own are for evaluation.
        nms = NmsConfig(max_detections=settings.max_det)
        options = ExportOptions(
            class_names=tuple(class_names),
            size=(image_size, image_size),
            dynamic=settings.onnx_dynamic,
            opset=settings.opset,
            half=onnx and settings.onnx_half,
            simplify=onnx and settings.onnx_simplify,
            nms=nms if onnx and settings.onnx_nms else None,
        )
        try:
            done = export(detector, form, path=target, options=options)
        except (TaskError, OSError) as error:
            log.warning("%s was not written, the weights are kept: %s", target.name, error)
        else:
            log.info("%s agrees with the network within %.1e", target.name, done.difference)
            files += done.files
    return files
