"""Image files by what names them: a folder, a pattern, a list; and whether they are still there."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Sequence
from pathlib import Path

from utils.errors import Code, TaskError

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".mpo"})
VIDEO_SUFFIXES = frozenset(
    {".asf", ".avi", ".gif", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".ts", ".wmv"}
)
SAMPLED_PATHS = 64
"""Files that stand for all when a data set is checked for being there."""


def find_images(source: str | Path) -> tuple[list[str], Path]:
    """Return the images that v7.0's `--source` names, and the folder their names are relative to.

    A source is an image, a folder (searched with those below it, sorted), a pattern, or a text
    file whose lines are relative to it or to the working directory. Raises TaskError(DATASET) for
    streams, screens, cameras and videos, and when there is no image.
    """
    text = str(source)
    _refuse_non_files(text)
    path = Path(text)
    if path.is_dir():
        found, base = images_under(path), path
    elif path.is_file() and path.suffix.lower() == ".txt":
        for line in path.read_text(encoding="utf-8").splitlines():
            _refuse_non_files(line.strip())
        found, base = listed_images(path, path.parent), Path()
    elif path.is_file():
        found, base = [path], path.parent
    else:
        matches = (Path(match) for match in sorted(glob.glob(text, recursive=True)))
        found, base = [p for p in matches if p.suffix.lower() in IMAGE_SUFFIXES], Path()
    if not found:
        # A pattern that nothing matches is no path.
        there = path.exists() or glob.has_magic(text)
        raise TaskError(
            Code.DATASET,
            f"{source} {'holds no image' if there else 'does not exist'}: name an image, a folder, "
            "a pattern such as 'a/*.jpg', or a text file that lists images.",
        )
    return [str(one) for one in found], base


def images_under(folder: Path) -> list[Path]:
    """Return the image files below a folder, by their suffix, sorted."""
    files = (path for path in folder.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES)
    return sorted(path for path in files if path.is_file())


def listed_images(listing: Path, base: Path) -> list[Path]:
    """Return the images a text file lists: './' means beside the file, else below `base`."""
    lines = (line.strip() for line in listing.read_text(encoding="utf-8").splitlines())
    found = []
    for line in lines:
        if line:
            path = (listing.parent if line.startswith("./") else base) / line
            found.append(path if path.exists() or not Path(line).exists() else Path(line))
    return found


def sample_paths(paths: Sequence[str]) -> list[str]:
    """Return at most 64 of the paths, evenly spaced over all."""
    step = max(1, -(-len(paths) // SAMPLED_PATHS))
    return list(paths[::step])


def available_sample(paths: Sequence[str]) -> list[str]:
    """Return those of `sample_paths` that exist now."""
    return [path for path in sample_paths(paths) if os.path.isfile(path)]


def check_data_available(paths: Sequence[str], *, what: str) -> None:
    """Raise TaskError(DATASET) when more than half of these files, once there, are gone."""
    gone = [path for path in paths if not os.path.isfile(path)]
    if 2 * len(gone) > len(paths):
        raise TaskError(
            Code.DATASET,
            f"the {what} disappeared while the task ran (of {len(paths)} files looked at "
            f"{len(gone)} are gone, {gone[0]} is one): give it back its data and start it again; "
            "what was finished is kept.",
        )


def _refuse_non_files(text: str) -> None:
    reason = ""
    if text.isdigit():
        reason = "is a camera"
    elif re.match(r"[a-z][a-z0-9+.-]*:/", text, flags=re.IGNORECASE) and not Path(text).exists():
        reason = "is an address in a network"
    elif text.startswith("screen") and not Path(text).exists():
        reason = "is a screen"
    elif text.endswith(".streams"):
        reason = "is a list of streams"
    elif Path(text).suffix.lower() in VIDEO_SUFFIXES:
        reason = "is a video"
    if reason:
        raise TaskError(
            Code.DATASET,
            f"--source {text} {reason}: this program reads image files only, and never from a "
            "network; save the images as files first.",
        )
