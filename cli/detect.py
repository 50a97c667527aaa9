"""Command line of `detect.py`: v7.0's flags and every setting of inference."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cli.options import RunName, parse_detection_flags
from cli.parsers import detect_parser
from data.sources import find_sources
from settings.convert import to_int
from settings.detect import InferSettings, OutputOptions
from settings.flags import named_device
from utils.errors import Code, TaskError


@dataclass(frozen=True)
class DetectCommand:
    """The request of a detect.py command line.

    `run` is the run's folder, not made yet, or None where only the JSON file `output` is wanted;
    no `output` means one in that folder. `base` is the folder that the names of images and videos
    are relative to. `shape` (height, width) bounds the network input. `device` is the text of
    --device or --gpu-id, None where neither was given.
    """

    settings: InferSettings
    weights: Path
    source: str
    images: list[str]
    videos: list[str]
    base: Path
    shape: tuple[int, int] | None
    stride: int
    device: str | None
    output: Path | None
    run: RunName | None
    outputs: OutputOptions


def parse_detect_command(arguments: Sequence[str] | None) -> DetectCommand:
    """Parse the arguments of detect.py.

    A wrong flag ends the program as argparse does. Raise TaskError for values, refused flags and
    sources without images.
    """
    parser = detect_parser()
    given, settings = parse_detection_flags(parser, "detect", arguments)
    if "source" not in given:
        parser.error("--source is required")
    images, videos, base = find_sources(given["source"])
    thickness = given.get("line_thickness")
    outputs = OutputOptions(
        save_images="nosave" not in given,
        save_txt="save_txt" in given,
        save_conf="save_conf" in given,
        save_crop="save_crop" in given,
        save_csv="save_csv" in given,
        view_img="view_img" in given,
        line_thickness=None if thickness is None else to_int("--line-thickness", thickness),
        hide_labels="hide_labels" in given,
        hide_conf="hide_conf" in given,
    )
    stride = to_int("--vid-stride", given.get("vid_stride", 1))
    if stride < 1:
        raise TaskError(Code.CONFIG, f"--vid-stride is {stride}; it must be 1 or more.")
    needs_folder = given["output"] is None or not {
        "save_txt", "save_crop", "save_csv", "project", "name"
    }.isdisjoint(given)  # fmt: skip
    return DetectCommand(
        settings=settings,
        weights=Path(given["weights"][0]),
        source=given["source"],
        images=images,
        videos=videos,
        base=base,
        shape=given.get("shape"),
        stride=stride,
        device=named_device(given, given["gpu_id"]),
        output=given["output"],
        run=RunName.of_flags(given, "runs/detect") if needs_folder else None,
        outputs=outputs,
    )
