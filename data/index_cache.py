"""The reading of a large data set, kept for the next run on the same files.

A reading is known by the files it is of: their paths, sizes and times of change, and by the source
that read them, so that neither a touched file nor another version of this program meets an old one.
Only sound data sets are kept: what was wrong with a file is found, and told, each time.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import stat
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import numpy.typing as npt

from data.report import DataReport
from utils.atomic import replace_file

log = logging.getLogger(__name__)

LEAST = 2000
"""Images of a data set that is worth keeping: fewer are read in a second or two."""
MOST_FILES = 8
"""Readings kept at once; the one that was used longest ago goes first."""
READERS = (
    *("annotations", "clean_boxes", "coco_labels", "data_report", "images", "index_file"),
    *("json_lists", "labels", "voc_labels"),
)
"""The modules, beside this one and `yolo_data`, whose source decides what a reading gives."""
COUNTS = ("duplicate_boxes", "clipped", "without_area", "rotated")
"""What a report counts beside files."""
CHUNK = 256


@dataclass(frozen=True)
class KeptReading:
    """Images and boxes as `labels.DatasetIndex` wants them, and what the report counts.

    `paths` is empty for what comes from the cache: then every image listed is usable, in order.
    sizes int32 [n, 2]; boxes float32 [m, 4]; classes int32 [m]; per_image int64 [n], boxes of each.
    """

    paths: Sequence[str]
    sizes: npt.NDArray[np.int32]
    boxes: npt.NDArray[np.float32]
    classes: npt.NDArray[np.int32]
    per_image: npt.NDArray[np.int64]
    counts: tuple[int, ...]
    unknown: dict[str, int]

    @classmethod
    def of(
        cls,
        report: DataReport,
        *,
        paths: Sequence[str],
        sizes: npt.NDArray[np.int32],
        boxes: npt.NDArray[np.float32],
        classes: npt.NDArray[np.int32],
        per_image: npt.NDArray[np.int64],
    ) -> KeptReading:
        """With the counts of a report."""
        counts = tuple(int(getattr(report, name)) for name in COUNTS)
        return cls(paths, sizes, boxes, classes, per_image, counts, dict(report.unknown_classes))

    def tell(self, report: DataReport) -> None:
        """Write everything that was counted into `report`."""
        for name, count in zip(COUNTS, self.counts, strict=True):
            setattr(report, name, count)
        report.unknown_classes = Counter(self.unknown)
        report.kept, report.boxes = len(self.per_image), len(self.boxes)
        report.backgrounds = int((self.per_image == 0).sum())


def cache_folder() -> Path:
    """A folder of the user's own among the temporary files."""
    return Path(tempfile.gettempdir()) / f"ymir-yolov5-index-{os.geteuid()}"


def key_of(files: Iterable[str | None], *about: str) -> str | None:
    """A digest of the files and of `about`; None where a file cannot be looked at.

    Of each file its path, size, times of change (content and entry) and number on the disk.
    """
    digest = hashlib.sha256(_own_source())
    digest.update(json.dumps(about).encode())
    seen: dict[str, None] = {}

    def looks(paths: Sequence[str]) -> list[str]:
        return [_look(path) for path in paths]

    try:
        for name in files:
            digest.update(b"\n" if name is None else os.fsencode(name) + b"\0")
            if name is not None:
                seen[name] = None
        with ThreadPoolExecutor(8) as pool:
            for part in pool.map(looks, _chunks(seen)):
                digest.update("\n".join(part).encode())
    except (OSError, ValueError):
        return None
    return digest.hexdigest()


def load_reading(key: str, folder: Path | None = None) -> KeptReading | None:
    """What was kept under `key`, None if nothing or nothing readable."""
    folder = folder or cache_folder()
    path = folder / f"{key}.npz"
    if not (path.is_file() and _is_ours(folder)):
        return None
    try:
        with np.load(path, allow_pickle=False) as content:
            counted = json.loads(content["counted"].tobytes())
            reading = KeptReading(
                (),
                content["sizes"],
                content["boxes"],
                content["classes"],
                content["per_image"],
                tuple(counted["counts"]),
                counted["unknown"],
            )
        os.utime(path)
    except Exception as error:  # a damaged archive raises anything
        log.info("the kept reading %s is of no use (%s)", path, error)
        return None
    log.info("%d images as read before: %s", len(reading.per_image), path)
    return reading


def save_reading(key: str, reading: KeptReading, folder: Path | None = None) -> None:
    """Keep a reading; where that cannot be, nothing is kept and nothing said."""
    folder = folder or cache_folder()
    counted = json.dumps({"counts": reading.counts, "unknown": reading.unknown}).encode()
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not _is_ours(folder):
            return
        with replace_file(folder / f"{key}.npz") as temporary, temporary.open("wb") as file:
            np.savez(
                file,
                sizes=reading.sizes,
                boxes=reading.boxes,
                classes=reading.classes,
                per_image=reading.per_image,
                counted=np.frombuffer(counted, np.uint8),
            )
        kept = sorted(folder.glob("*.npz"), key=lambda path: path.stat().st_mtime_ns)
        for path in kept[:-MOST_FILES]:
            path.unlink(missing_ok=True)
    except OSError:
        return


def _own_source() -> bytes:
    here = Path(__file__)
    names = (here.stem, "yolo_data", *READERS)
    files = (here.with_name(f"{name}.py") for name in names)
    return b"".join(path.read_bytes() for path in files if path.is_file())


def _look(path: str) -> str:
    found = os.stat(path)
    return f"{found.st_size} {found.st_mtime_ns} {found.st_ctime_ns} {found.st_ino}"


def _chunks(names: Iterable[str]) -> Iterator[list[str]]:
    remaining = iter(names)
    while chunk := list(islice(remaining, CHUNK)):
        yield chunk


def _is_ours(folder: Path) -> bool:
    """Whether a folder among the temporary files is this user's and closed to others."""
    found = folder.lstat()
    return (
        stat.S_ISDIR(found.st_mode)
        and found.st_uid == os.geteuid()
        and not stat.S_IMODE(found.st_mode) & 0o022
    )
