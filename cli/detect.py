"""Command line of `detect.py`: v7.0's flags and every setting of inference."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cli.options import RunName, add_setting_options, given_settings
from data.sources import find_images
from settings.convert import to_int
from settings.detect import InferSettings, OutputOptions
from settings.flags import add_flags, named_device, resolve_flags, with_dashes
from settings.parse import parse_settings
from settings.v7_flags import FLAGS
from utils.errors import Code, TaskError

PROJECT = "runs/detect"
TAKEN = ("args_options", *(flag.setting for flag in FLAGS["detect"] if flag.setting))


@dataclass(frozen=True)
class DetectCommand:
    """The request of a detect.py command line.

    `run` is the run's folder, not made yet, or None where only the JSON file `output` is wanted;
    no `output` means one in that folder. `base` is the folder that the images' names are relative
    to. `device` is the text of --device or --gpu-id, None where neither was given.
    """

    settings: InferSettings
    weights: Path
    images: list[str]
    base: Path
    device: str | None
    output: Path | None
    run: RunName | None
    outputs: OutputOptions
    notes: tuple[str, ...]


def parse_detect_command(arguments: Sequence[str]) -> DetectCommand:
    """Parse the arguments of detect.py.

    A wrong flag ends the program as argparse does. Raise TaskError for values, refused flags and
    sources without images.
    """
    parser = _parser()
    options = vars(parser.parse_args(with_dashes(arguments)))
    parsed = resolve_flags("detect", options)
    own = parsed.command
    if "weights" not in options or "source" not in own:
        parser.error("--weights and --source are required")
    settings, notes = parse_settings(
        InferSettings, parsed.settings, given_settings(InferSettings, options, TAKEN)
    )
    weights = _single_file(options["weights"])
    images, base = find_images(str(own["source"]))
    outputs = OutputOptions(
        save_images="nosave" not in own,
        save_txt="save_txt" in own,
        save_conf="save_conf" in own,
        save_crop="save_crop" in own,
        line_thickness=to_int("line_thickness", own["line_thickness"])
        if "line_thickness" in own
        else None,
        hide_labels="hide_labels" in own,
        hide_conf="hide_conf" in own,
    )
    output: Path | None = options["output"]
    run = None
    wants_files = outputs.save_txt or outputs.save_crop or not {"project", "name"}.isdisjoint(own)
    if output is None or wants_files:
        project = Path(str(own.get("project", PROJECT)))
        run = RunName(project, str(own.get("name", "exp")), "exist_ok" in own)
    return DetectCommand(
        settings=settings,
        weights=weights,
        images=images,
        base=base,
        device=named_device(own, options["gpu_id"]),
        output=output,
        run=run,
        outputs=outputs,
        notes=(*parsed.notes, *notes),
    )


def _single_file(weights: Sequence[str]) -> Path:
    if len(weights) != 1:
        raise TaskError(
            Code.CONFIG,
            f"--weights names {len(weights)} files: detecting with several networks at once is "
            "not offered; name one.",
        )
    return Path(weights[0])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="detect.py",
        description="Detect objects in images with the flags of YOLOv5 v7.0's detect.py: pictures "
        "and detections.json go to a run folder, or only the JSON file that --output names.",
    )
    add_flags(parser, "detect")
    parser.add_argument("--output", type=Path, help="this JSON file only, and no run folder")
    parser.add_argument("--gpu-id", help="for example 0; '' for the CPU")
    add_setting_options(parser, InferSettings, TAKEN)
    return parser
