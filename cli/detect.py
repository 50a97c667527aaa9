"""Command line of `detect.py`: v7.0's flags and every setting of inference."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cli.options import RunName, parse_detection_flags
from data.sources import find_images
from settings.convert import to_int
from settings.detect import InferSettings, OutputOptions
from settings.flags import named_device


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


def parse_detect_command(arguments: Sequence[str] | None) -> DetectCommand:
    """Parse the arguments of detect.py.

    A wrong flag ends the program as argparse does. Raise TaskError for values, refused flags and
    sources without images.
    """
    parser = argparse.ArgumentParser(
        prog="detect.py",
        description="Detect objects in images with the flags of YOLOv5 v7.0's detect.py: pictures "
        "and detections.json go to a run folder, or only the JSON file that --output names.",
    )
    parser.add_argument("--output", type=Path, help="this JSON file only, and no run folder")
    given, settings = parse_detection_flags(parser, "detect", arguments)
    if "source" not in given:
        parser.error("--source is required")
    images, base = find_images(given["source"])
    thickness = given.get("line_thickness")
    outputs = OutputOptions(
        save_images="nosave" not in given,
        save_txt="save_txt" in given,
        save_conf="save_conf" in given,
        save_crop="save_crop" in given,
        line_thickness=None if thickness is None else to_int("line_thickness", thickness),
        hide_labels="hide_labels" in given,
        hide_conf="hide_conf" in given,
    )
    needs_folder = given["output"] is None or outputs.save_txt or outputs.save_crop
    return DetectCommand(
        settings=settings,
        weights=Path(given["weights"][0]),
        images=images,
        base=base,
        device=named_device(given, given["gpu_id"]),
        output=given["output"],
        run=RunName.of_flags(given, "runs/detect")
        if needs_folder or "project" in given or "name" in given
        else None,
        outputs=outputs,
    )
