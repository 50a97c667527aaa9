"""The command line of benchmarks that show image files to a trained network."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from bench.material import BUILD
from bench.pairs import note_if_busy


def look_parser(
    description: str | None, *, name: str, images: int, turns: str
) -> argparse.ArgumentParser:
    """Data, weights, sizes and places of the benchmark `name`; `turns` is what its rounds are
    called, with two dashes.
    """
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, help="a VOC, COCO or YOLO folder; default: drawn")
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--model", default="yolov5s")
    parser.add_argument("--img-size", type=int, default=640)
    parser.add_argument("--images", type=int, default=images, help="files in one round")
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument(turns, type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, default=BUILD / name)
    parser.add_argument("--markdown", type=Path, help="also write the table to this file")
    return parser


def look_options(
    parser: argparse.ArgumentParser, arguments: Sequence[str] | None, *, turns: str
) -> argparse.Namespace:
    """What the command line says; ends the program where there is nothing to measure."""
    options = parser.parse_args(arguments)
    counts = (turns, "--threads", "--images")
    if min(getattr(options, option.lstrip("-")) for option in counts) < 1:
        parser.error(f"{turns}, --threads and --images must be at least 1")
    note_if_busy()
    return options
