"""What `--source` of v7.0 may name: an image, a folder, a pattern, or a text file of paths."""

from __future__ import annotations

import glob
import re
from pathlib import Path

from data.formats.yolo import IMAGE_SUFFIXES, images_under, listed_images
from utils.errors import Code, TaskError

VIDEOS = frozenset(
    {".asf", ".avi", ".gif", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".ts", ".wmv"}
)


def find_images(source: str | Path) -> tuple[list[str], Path]:
    """The images that a source names, and the folder that their names are relative to.

    A folder is searched with those below it and sorted; the lines of a text file are relative to
    it or to the working directory. Raises TaskError(DATASET) for streams, screens, cameras and
    videos, and when there is no image.
    """
    text = str(source)
    _refuse_what_is_no_file(text)
    path = Path(text)
    if path.is_dir():
        found, base = images_under(path), path
    elif path.is_file() and path.suffix.lower() == ".txt":
        for line in path.read_text(encoding="utf-8").splitlines():
            _refuse_what_is_no_file(line.strip())
        found, base = listed_images(path, path.parent), Path()
    elif path.is_file():
        _refuse_what_is_no_file(text)
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


def _refuse_what_is_no_file(text: str) -> None:
    reason = ""
    if text.isdigit():
        reason = "is a camera"
    elif re.match(r"[a-z][a-z0-9+.-]*:/", text, flags=re.IGNORECASE) and not Path(text).exists():
        reason = "is an address in a network"
    elif text.startswith("screen") and not Path(text).exists():
        reason = "is a screen"
    elif text.endswith(".streams"):
        reason = "is a list of streams"
    elif Path(text).suffix.lower() in VIDEOS:
        reason = "is a video"
    if reason:
        raise TaskError(
            Code.DATASET,
            f"--source {text} {reason}: this program reads image files only, and never from a "
            "network; save the pictures as files first.",
        )
