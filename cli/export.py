"""Command line of `export.py`: v7.0's flags."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cli.parsers import export_parser
from data.data_yaml import read_data_yaml
from exporting.options import ExportOptions, check_options
from ops.nms import NmsConfig
from settings.convert import convert
from settings.flags import named_device, resolve_flags, typed
from settings.parse import parse_settings
from settings.rules import FieldSpec
from settings.train import TrainSettings
from utils.device import parse_device
from utils.errors import Code, TaskError


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
            names = read_data_yaml(self.names_file).class_names
            if len(names) != len(class_names):
                raise TaskError(
                    Code.CONFIG,
                    f"--data {self.names_file} has {len(names)} names, but the weights know "
                    f"{len(class_names)} classes.",
                )
            class_names = names
        return replace(self.options, class_names=class_names, size=(height, width))


def parse_export_command(arguments: Sequence[str] | None) -> ExportCommand:
    """Parse the arguments of export.py; raise TaskError(CONFIG) for refused or contrary options."""
    parser = export_parser()
    given = parser.read(arguments)
    settings, _ = parse_settings(TrainSettings, resolve_flags("export", given).layer)
    if "weights" not in given:
        parser.error("--weights is required")
    words = [word.lower() for word in given.get("include", ["onnx"])]
    formats = tuple(dict.fromkeys("state-dict" if w == "state_dict" else w for w in words))
    options = ExportOptions(
        class_names=(),
        dynamic="dynamic" in given,
        batch_size=_number(given, "batch_size", 1, 1, 4096),
        half="half" in given,
        opset=settings.opset,
        simplify="simplify" in given,
        nms=_nms(given),
        verbose="verbose" in given,
        device=parse_device(named_device(given, given["gpu_id"]) or "cpu"),
    )
    for form in formats:
        check_options(form, options)
    output, weights, data = given["output"], given["weights"], given.get("data")
    if output is not None and (len(formats) > 1 or len(weights) > 1):
        raise TaskError(
            Code.CONFIG, "--output names one file: give one weight file and one format with it."
        )
    ((flag, wanted),) = (typed(given, "imgsz") or {"--imgsz": 640}).items()
    sides: Any = convert(flag, wanted, tuple[int, ...], FieldSpec("", 1, 8192))
    if len(sides) > 2:
        raise TaskError(Code.CONFIG, f"{flag} takes one side, or height and width.")
    return ExportCommand(
        weights=tuple(map(Path, weights)),
        formats=formats,
        output=output,
        image_size=(sides[0], sides[-1]),
        names_file=None if data is None else Path(data),
        options=options,
    )


def _nms(given: Mapping[str, Any]) -> NmsConfig | None:
    if "nms" not in given:
        for name in ("conf_thres", "iou_thres", "topk_all", "agnostic_nms"):
            if name in given:
                flag = "--" + name.replace("_", "-")
                raise TaskError(
                    Code.CONFIG, f"{flag} concerns the suppression in the file; add --nms."
                )
        return None
    usual = NmsConfig()
    return NmsConfig(
        confidence=_number(given, "conf_thres", usual.confidence),
        iou=_number(given, "iou_thres", usual.iou),
        max_detections=_number(given, "topk_all", usual.max_detections, 1, 3840),
        class_agnostic="agnostic_nms" in given,
    )


def _number(given: Mapping[str, Any], name: str, usual: float, low: int = 0, high: int = 1) -> Any:
    """Return the number that a flag gives, else the usual one, whose type it has."""
    flag = "--" + name.replace("_", "-")
    return convert(flag, given.get(name, usual), type(usual), FieldSpec("", low, high))
