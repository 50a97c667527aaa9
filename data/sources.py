"""Image files by what names them: a folder, a pattern, a list; and whether they are still there."""

from __future__ import annotations

import glob
import logging
import os
import re
from collections.abc import Collection, Sequence
from contextlib import suppress
from pathlib import Path
from shlex import quote

from data.images import ImageError, image_header
from utils.errors import Code, TaskError
from utils.text import EncodingError, read_text

log = logging.getLogger(__name__)

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".mpo"})
VIDEO_SUFFIXES = frozenset(
    {".asf", ".avi", ".gif", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".ts", ".wmv"}
)
SAMPLED_PATHS = 64
"""Files that stand for all when a data set is checked for being there."""


def find_images(source: str | Path) -> tuple[list[str], Path]:
    """Return the images that v7.0's `--source` names, and the folder their names are relative to.

    As `find_sources`, without its videos: TaskError(DATASET) where there is nothing else.
    """
    images, videos, base = find_sources(source)
    if not images:
        raise TaskError(
            Code.DATASET,
            f"{source} has videos and no image (the first is {videos[0]}): save frames of "
            f"them as files (ffmpeg -i {quote(videos[0])} -vf fps=1 frames/%06d.jpg).",
        )
    if videos:
        log.warning("left out of %s: %d videos, such as %s", source, len(videos), videos[0])
    return images, base


def find_sources(source: str | Path) -> tuple[list[str], list[str], Path]:
    """Return the images and the videos that v7.0's `--source` names, and the folder their names
    are relative to.

    A source is an image, a video, a folder (searched with those below it, sorted), a pattern, or a
    text file whose lines are relative to it or to the working directory. Raises TaskError(DATASET)
    for streams, screens and cameras, and when there is neither image nor video.
    """
    text = os.fspath(source)
    if not text.strip():
        raise TaskError(Code.DATASET, "--source is empty: name an image, a folder or a pattern.")
    _refuse_non_files(text)
    path, suffixes = Path(text), IMAGE_SUFFIXES | VIDEO_SUFFIXES
    if path.is_dir():
        found, base = files_under(path, suffixes), path
    elif path.is_file() and path.suffix.lower() == ".txt":
        try:
            for line in read_text(path, escape=True).splitlines():
                _refuse_non_files(line.strip())
            found, base = listed_images(path, path.parent), Path()
        except (EncodingError, OSError) as error:
            raise TaskError(Code.DATASET, f"{path} is no list of images ({error}).") from None
    elif path.is_file():
        _refuse_other_files(path)
        found, base = [path], path.parent
    else:
        matches = (Path(match) for match in sorted(glob.glob(text, recursive=True)))
        found, base = [p for p in matches if p.suffix.lower() in suffixes and p.is_file()], Path()
    if not found:
        # A pattern that nothing matches is no path.
        there = path.exists() or glob.has_magic(text)
        raise TaskError(
            Code.DATASET,
            f"{source} {'holds no image' if there else 'does not exist'}: name an image, a video, "
            "a folder, a pattern such as 'a/*.jpg', or a text file that lists images.",
        )
    videos = [str(one) for one in found if one.suffix.lower() in VIDEO_SUFFIXES]
    images = [str(one) for one in found if one.suffix.lower() not in VIDEO_SUFFIXES]
    return images, videos, base


def files_under(folder: Path, suffixes: Collection[str], *, depth: int | None = None) -> list[Path]:
    """Return the files below a folder that have one of the suffixes (lower case), sorted.

    Linked folders are entered, each folder once, so that loops end. Names that begin with a dot
    (`.ipynb_checkpoints`, `._a.jpg` of a Mac) and `__MACOSX` are no data. `depth` 1 stays in the
    folder itself.
    """
    found: list[Path] = []
    seen: set[tuple[int, int]] = set()
    waiting = [(folder, 1)]
    while waiting:
        current, level = waiting.pop()
        try:
            here = os.stat(current)
            entries = sorted(os.scandir(current), key=lambda entry: entry.name, reverse=True)
        except OSError:
            continue
        if (here.st_dev, here.st_ino) in seen:
            continue
        seen.add((here.st_dev, here.st_ino))
        for entry in entries:
            if is_hidden(entry.name):
                continue
            path = current / entry.name
            with suppress(OSError):  # a link to itself
                if path.suffix.lower() in suffixes and entry.is_file():
                    found.append(path)
                elif level != depth and entry.is_dir():
                    waiting.append((path, level + 1))
    return sorted(found)


def is_hidden(name: str) -> bool:
    """Return whether a file or folder of this name is no data: a tool or a system left it."""
    return name.startswith(".") or name == "__MACOSX"


def images_under(folder: Path) -> list[Path]:
    """Return the image files below a folder, by their suffix, sorted."""
    return files_under(folder, IMAGE_SUFFIXES)


def with_slashes(text: str) -> str:
    """Return a relative path of Windows as it is written here; any other text stays."""
    return text if "/" in text else text.replace("\\", "/")


def listed_images(listing: Path, base: Path) -> list[Path]:
    """Return the images a text file lists: './' means beside the file, else below `base`.

    A line with backslashes that names no file is read with slashes. EncodingError, OSError.
    """
    found = []
    for line in map(str.strip, read_text(listing, escape=True).splitlines()):
        texts = dict.fromkeys((line, with_slashes(line))) if line else ()
        places = [
            place
            for text in texts
            for place in ((listing.parent if text.startswith("./") else base) / text, Path(text))
        ]
        if places:
            found.append(next((place for place in places if place.exists()), places[0]))
    return found


def names_below(paths: Sequence[str]) -> list[str]:
    """Return paths relative to the folder that all have in common: the same when it is moved."""
    absolute = [os.path.abspath(path) for path in paths]
    folders = {os.path.dirname(path) for path in absolute}
    common = os.path.commonpath(folders) if folders else ""
    return [path[len(common) :] for path in absolute]


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


def _refuse_other_files(path: Path) -> None:
    """Raise TaskError(IMAGE_FORMAT) for a file of another kind; a damaged image counts as one."""
    if path.suffix.lower() not in IMAGE_SUFFIXES | VIDEO_SUFFIXES:
        try:
            image_header(path)
        except ImageError as error:
            raise TaskError(
                Code.IMAGE_FORMAT,
                f"{path} is no image ({error.reason}): name an image, a video, a folder, a "
                "pattern such as 'a/*.jpg', or a .txt file that lists images.",
            ) from None


def _refuse_non_files(text: str) -> None:
    """Raise TaskError(DATASET) for what v7.0 opens and is no file, with the way to one."""
    what = ""
    if text.endswith(".streams"):
        what = "is a list of streams: record each as a video file"
    elif Path(text).exists():
        return
    elif text.isdigit():
        what = "is the number of a camera: record a video file on the machine that it is at"
    elif re.match(r"(https?|ftp)://?", text, flags=re.IGNORECASE):
        what = f"is an address in a network: download it first (curl -LO {quote(text)})"
    elif re.match(r"[a-z][a-z0-9+.-]+:/", text, flags=re.IGNORECASE):
        what = (
            f"is an address in a network: record it first (ffmpeg -i {quote(text)} -t 60 clip.mp4)"
        )
    elif re.fullmatch(r"screen( \d+)*", text, flags=re.IGNORECASE):
        what = "is a screen: save screenshots"
    if what:
        raise TaskError(
            Code.DATASET,
            f"{text} {what}, and name the file; this program opens files only, no "
            "camera, no screen and no network.",
        )
