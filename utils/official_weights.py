"""Weight files of the official v7.0 release, and what to do where a weight file is missing."""

from __future__ import annotations

from pathlib import Path

from utils.errors import Code, TaskError

RELEASE = "https://github.com/ultralytics/yolov5/releases/download/v7.0/"
SIZES = ("n", "s", "m", "l", "x")
OFFICIAL = frozenset(f"yolov5{size}{image}.pt" for size in SIZES for image in ("", "6"))
"""Files of the release that hold detection models."""
KNOWN_SHA256 = {"yolov5n.pt": "4f180cf23ba0717ada0badd6c685026d73d48f184d00fc159c2641284b2ac0a3"}
"""Sums taken from copies of the release's files (yolov5n.pt: 4,062,133 bytes, v6.1 to v7.0)."""
COCO_START = (
    "on 160 photographs of raccoons (320 px, hyp: small) mAP50 was .94 after 12 epochs from COCO "
    "weights, .58 after 100 from scratch (docs/accuracy.md)"
)
"""What a start from scratch forgoes, for log, pages and demo: raccoon with `small` in the tables of
«Few photographs, few iterations», mean of four seeds against one."""
SCRATCH = "scratch"
"""Value of the setting `weights` that asks for random initialisation."""


def missing_weights(path: Path, *, training: bool = False) -> TaskError:
    """Return the refusal (model) of a weight file that does not exist, with what can be done."""
    name, what = path.name, "is a folder" if path.is_dir() else "does not exist"
    ways = ["name a file that exists"]
    if name in OFFICIAL:
        ways.append(f"fetch {RELEASE}{name} yourself")
        if training:
            more = "" if name in KNOWN_SHA256 else " and weights_sha256=<its SHA-256>"
            ways.append(f"have it fetched by adding download_weights=true{more} to the command")
    if training:
        model = f" --cfg {path.stem}" if name in OFFICIAL else ""
        ways.append(f"train from scratch with --weights ''{model}")
    return TaskError(
        Code.MODEL,
        f"The weight file {path} {what}, and nothing is downloaded unasked: {', or '.join(ways)}.",
    )
