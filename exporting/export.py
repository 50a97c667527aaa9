"""The network in another program's format, and the proof that the file computes the same.

python export.py --weights best.pt --include onnx --nms --half
python export.py --weights best.pt --include torchscript openvino safetensors state-dict
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from exporting.onnx_file import run_onnx, write_onnx
from exporting.openvino_file import run_openvino, write_openvino
from exporting.options import ExportOptions, refuse_impossible
from exporting.torchscript_file import run_torchscript, write_torchscript
from exporting.verify import (
    Disagreement,
    Run,
    largest_difference,
    reference,
    shapes_to_try,
    tolerance_of,
)
from exporting.weights_file import run_state_dict, run_weights, write_state_dict, write_weights
from models.detector import Detector
from utils.atomic import replace_file, scratch_beside
from utils.errors import Code, TaskError


@dataclass(frozen=True)
class Format:
    """How a format is written, and how its file is run to compare it."""

    ending: str
    """What follows the stem of the weights' name by default."""
    write: Callable[[Detector, Path, ExportOptions], None]
    run: Callable[[Path, Detector, ExportOptions], Run]


FORMATS = {
    "onnx": Format(".onnx", write_onnx, lambda path, _, options: run_onnx(path, options)),
    "torchscript": Format(
        ".torchscript", write_torchscript, lambda path, _, options: run_torchscript(path, options)
    ),
    "openvino": Format(
        ".xml", write_openvino, lambda path, _, options: run_openvino(path, options)
    ),
    "safetensors": Format(
        ".safetensors", write_weights, lambda path, _, options: run_weights(path, options)
    ),
    "state-dict": Format(".state_dict", write_state_dict, run_state_dict),
}


@dataclass(frozen=True)
class Exported:
    """What an export left: its files, the one to open first, and how close it comes."""

    files: tuple[Path, ...]
    difference: float
    """The largest difference of any output, pixels and probabilities alike."""


def export(detector: Detector, form: str, *, path: Path, options: ExportOptions) -> Exported:
    """Write an unfused detector in one format and compare the file with it; both stay as they are.

    The file appears under `path` (OpenVINO: also `.bin`) once it has agreed, whole and replacing
    an older one. Raises `TaskError`: config for what the format cannot do, model for a file that
    cannot be written or disagrees, in which case nothing new is there.
    """
    refuse_impossible(form, options)
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
    detector: Detector,
    form: str,
    *,
    path: Path,
    options: ExportOptions,
    name: Path | None = None,
) -> float:
    """Run a file of one format and the detector on the same pictures; the largest difference.

    `name` is what the file is called in a refusal. Raises `TaskError` (model) when the file
    cannot be run, or a difference is beyond rounding (`exporting/verify.py`).
    """
    shown = name or path
    try:
        return largest_difference(
            FORMATS[form].run(path, detector, options),
            reference(detector, options.device),
            channels=detector.config.channels,
            shapes=shapes_to_try(detector.config.input_multiple, options),
            tolerance=tolerance_of(options),
        )
    except Disagreement as error:
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
            f"The {form} file {shown} cannot be run ({_first_line(error)}); keep the .pt file.",
        ) from error


def _write(detector: Detector, form: str, path: Path, options: ExportOptions) -> None:
    try:
        FORMATS[form].write(detector, path, options)
    except (TaskError, OSError):
        raise
    # The exporters raise many kinds, and none of them says more than that it did not work.
    except Exception as error:
        named, advice = form, "the .pt file is not affected"
        if form in ("onnx", "openvino"):
            named, advice = f"{form} opset {options.opset}", "try opset 17"
        raise TaskError(
            Code.MODEL,
            f"The network cannot be exported to {named} ({_first_line(error)}); {advice}.",
        ) from error


def _first_line(error: Exception) -> str:
    text = str(error).strip()
    return text.splitlines()[0] if text else repr(error)
