"""Where weight files lie: a folder of the user's, the image's own, and how a model's is called."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

from utils.errors import Code, TaskError

IMAGE_FOLDER = Path("/weights")
"""Where a container image brings pretrained weights along."""
SCRATCH = "scratch"
"""The word in place of a weight file that asks for random weights."""
SUFFIXES = (".pt", ".pth", ".safetensors")
SIZES = ("n", "s", "m", "l", "x")
OFFICIAL = frozenset(f"yolov5{size}{image}.pt" for size in SIZES for image in ("", "6"))
"""Files of the v7.0 release that hold detection models."""


def weight_folders(weights_dir: str, *, may_be_made: bool = False) -> tuple[Path, ...]:
    """The folders to look into, in this order.

    A folder that the user names must be there, else TaskError(CONFIG), unless it may be made for
    a download.
    """
    if not weights_dir:
        return (IMAGE_FOLDER,)
    folder = Path(weights_dir)
    if not os.path.isdir(folder) and not (may_be_made and not os.path.exists(folder)):
        raise TaskError(
            Code.CONFIG,
            f"the setting weights_dir is {weights_dir!r}; it must be a folder that exists.",
        )
    return (folder, IMAGE_FOLDER)


def find_weights(name: str, folders: Sequence[Path]) -> Path | None:
    """The first file of that name, or None; a name never leads out of a folder."""
    if Path(name).name != name or not name.lower().endswith(SUFFIXES):
        return None
    return next((folder / name for folder in folders if os.path.isfile(folder / name)), None)


def file_of_model(model: str) -> str:
    """The weight file's name of a model: 's', 'yolov5s' and 'models/yolov5s.yaml' all give
    'yolov5s.pt', a model file of one's own gives its own name.
    """
    stem = Path(model).name.removesuffix(".yaml").removesuffix(".yml")
    full = f"yolov5{stem}.pt"
    return full if full in OFFICIAL else f"{stem}.pt"


def check_download(model: str, sha256: str) -> tuple[str, str]:
    """Name and SHA-256 of the file that a download would fetch.

    Nobody here vouches for the files of a release, so the user has to. Raises TaskError(CONFIG)
    without a whole SHA-256, and for a model that the release does not have.
    """
    digest = sha256.strip().lower()
    if not re.fullmatch(r"[0-9a-f]{64}", digest):
        raise TaskError(
            Code.CONFIG,
            "download_weights needs weights_sha256, the 64 hexadecimal digits of the file's "
            f"SHA-256, but it is {sha256[:80]!r}: take it from a copy you trust (sha256sum FILE).",
        )
    name = file_of_model(model)
    if name not in OFFICIAL:
        raise TaskError(
            Code.CONFIG,
            f"download_weights has no file for the model {model!r}; it must be one of "
            f"{', '.join(sorted(name.removesuffix('.pt') for name in OFFICIAL))}.",
        )
    return name, digest
