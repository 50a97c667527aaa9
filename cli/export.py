"""Command line of `export.py`: v7.0's options, with reasons for those that are refused."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import yaml

from exporting.options import ExportOptions, check_options
from ops.nms import NmsConfig
from settings.train import EXPORT_FORMATS
from utils.device import parse_gpu_ids, select_device
from utils.errors import Code, TaskError

REFUSED = {
    "inplace": "the head here decodes without writing into its maps, so there is nothing to switch",
    "optimize": "it prepares TorchScript for PyTorch Mobile, which is no longer developed; on a "
    "phone use onnx with ONNX Runtime Mobile",
    "int8": "whole numbers need pictures to calibrate with, so they are set where the file is "
    "used, by the tools of ONNX Runtime, OpenVINO or TensorRT; --half is written here",
    "keras": "TensorFlow formats are not written here; write onnx, and convert that with onnx2tf",
    "workspace": "no TensorRT engine is built here; give the size to trtexec (--memPoolSize)",
    "topk_per_class": "suppression here keeps the best of all classes together; limit them with "
    "--topk-all",
}
"""Flags of v7.0 that are refused, with the reason."""


@dataclass(frozen=True)
class ExportCommand:
    """The request of an export.py command line."""

    weights: tuple[Path, ...]
    formats: tuple[str, ...]
    output: Path | None
    image_size: tuple[int, int]
    names_file: Path | None
    options: ExportOptions
    """Without the class names and the size, which depend on the weights."""

    def options_for(self, class_names: tuple[str, ...], stride: int) -> ExportOptions:
        """Return the options for one network: class names, sides rounded up to the stride."""
        height, width = (-(-side // stride) * stride for side in self.image_size)
        if self.names_file is not None:
            class_names = _names_of(self.names_file, len(class_names))
        return replace(self.options, class_names=class_names, size=(height, width))


def parse_export_command(arguments: Sequence[str] | None, description: str) -> ExportCommand:
    """Parse the arguments of export.py; raise TaskError(CONFIG) for refused or contrary options."""
    given = _parser(description).parse_args(arguments)
    for name, reason in REFUSED.items():
        if getattr(given, name) is not None:
            raise TaskError(Code.CONFIG, f"{_flag(name)} is refused: {reason}.")
    words = [word.lower() for word in given.include]
    formats = tuple(dict.fromkeys("state-dict" if w == "state_dict" else w for w in words))
    options = ExportOptions(
        class_names=(),
        # v7.0 fixes the shape unless told otherwise; naming a batch asks for that.
        dynamic=given.batch_size is None if given.dynamic is None else given.dynamic,
        batch_size=_within(
            "batch_size", 1 if given.batch_size is None else given.batch_size, 1, 4096
        ),
        half=given.half,
        opset=given.opset,
        simplify=given.simplify,
        nms=_nms(given),
        verbose=given.verbose,
        device=select_device(_ids(given.device)),
    )
    for form in formats:
        check_options(form, options)
    if given.output is not None and (len(formats) > 1 or len(given.weights) > 1):
        raise TaskError(
            Code.CONFIG, "--output names one file: give one weight file and one format with it."
        )
    if len(given.imgsz) > 2:
        raise TaskError(Code.CONFIG, "--imgsz takes one side, or height and width.")
    height, width = (_within("imgsz", given.imgsz[index], 1, 8192) for index in (0, -1))
    return ExportCommand(
        weights=tuple(given.weights),
        formats=formats,
        output=given.output,
        image_size=(height, width),
        names_file=given.data,
        options=options,
    )


def _parser(description: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--weights", type=Path, nargs="+", required=True, help="checkpoints")
    add("--include", nargs="+", default=["onnx"], help=f"formats: {', '.join(EXPORT_FORMATS)}")
    add("--output", type=Path, help="the file; beside the weights by default")
    add("--imgsz", "--img", "--img-size", type=int, nargs="+", default=[640], help="h w in pixels")
    add("--batch-size", type=int, help="images of a file with a fixed shape; asks for one")
    add("--dynamic", action=argparse.BooleanOptionalAction, help="any batch and size (the default)")
    add("--device", "--gpu-id", default="cpu", help="where the network computes: cpu, or 0")
    add("--half", action="store_true", help="float16 weights")
    add("--opset", type=int, default=17, help="ONNX operator set, from 11 on")
    add("--simplify", action="store_true", help="fold constants of the ONNX graph")
    add("--nms", action="store_true", help="put suppression into the ONNX graph")
    add("--agnostic-nms", action="store_true", help="classes suppress each other")
    add("--conf-thres", type=float, help="confidence of --nms (0.25)")
    add("--iou-thres", type=float, help="overlap of --nms (0.45)")
    add("--topk-all", type=int, help="most detections per image of --nms (300)")
    add("--data", type=Path, help="data YAML whose 'names' go into the file")
    add("--verbose", action="store_true", help="show what the converters say")
    for name in REFUSED:
        add(_flag(name), nargs="?", const=True, help=argparse.SUPPRESS)
    return parser


def _nms(given: argparse.Namespace) -> NmsConfig | None:
    limits = ("conf_thres", "iou_thres", "topk_all")
    if not given.nms:
        asked = [name for name in limits if getattr(given, name) is not None]
        asked += ["agnostic_nms"] if given.agnostic_nms else []
        if asked:
            raise TaskError(
                Code.CONFIG, f"{_flag(asked[0])} concerns the suppression in the file; add --nms."
            )
        return None
    usual = NmsConfig()
    confidence, iou, most = (getattr(given, name) for name in limits)
    return NmsConfig(
        confidence=_within("conf_thres", usual.confidence if confidence is None else confidence),
        iou=_within("iou_thres", usual.iou if iou is None else iou),
        max_detections=int(
            _within("topk_all", usual.max_detections if most is None else most, 1, 3840)
        ),
        class_agnostic=given.agnostic_nms,
    )


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


Number = TypeVar("Number", int, float)


def _within(name: str, value: Number, least: Number = 0, most: Number = 1) -> Number:
    if not least <= value <= most:
        raise TaskError(Code.CONFIG, f"{_flag(name)} is {value}; it must be {least} to {most}.")
    return value


def _ids(text: str) -> list[int]:
    if text.strip().lower() == "cpu":
        return []
    try:
        return parse_gpu_ids(text)
    except ValueError:
        raise TaskError(
            Code.CONFIG, f"--device is {text!r}; it must be cpu, or the number of a GPU."
        ) from None


def _names_of(path: Path, classes: int) -> tuple[str, ...]:
    """Read the class names of a data.yaml: a list, or a mapping from index to name."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise TaskError(Code.CONFIG, f"--data {path} cannot be read as YAML ({error}).") from error
    names = content.get("names") if isinstance(content, dict) else None
    if isinstance(names, dict):
        names = [names.get(index) for index in range(len(names))]
    if not isinstance(names, list) or len(names) != classes or None in names:
        raise TaskError(
            Code.CONFIG,
            f"--data {path} must have 'names' for the {classes} classes of the weights.",
        )
    return tuple(str(name) for name in names)
