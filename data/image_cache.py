"""Training images at training size: kept decoded in memory or on disk, or read on request."""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from data.dataset_index import DatasetIndex
from data.images import ImageError, Pixels, read_image
from ops.letterbox import resize_image
from utils.progress import progress_bar

log = logging.getLogger(__name__)

MEMORY_SHARE = 0.6
"""Part of the free memory that images may take; the rest is for the network and the workers."""
DISK_SHARE = 0.9
"""Part of the free disk that images may take."""
_NAMED_AT_MOST = 10
"""Bad files named in the log one by one; the rest is only counted."""


@dataclass(frozen=True)
class BadImage:
    """An image that could not be used: its position in the data set, its file and the reason."""

    position: int
    path: str
    reason: str


@dataclass(frozen=True)
class ImageCache:
    """The images of a data set, long side at the training size: uint8 [h, w, 3], BGR.

    `sizes` int64 [n, 2] are their (height, width). `pixels` holds them end to end from `starts`
    int64 [n] on, or is None: then every request decodes the file. One flat array rather than many,
    in memory or in a file, so that forked workers share all of it.
    """

    index: DatasetIndex
    sizes: npt.NDArray[np.int64]
    starts: npt.NDArray[np.int64]
    pixels: Pixels | None = None
    _named: set[str] = field(default_factory=set, repr=False)

    @property
    def decoded(self) -> bool:
        """Whether all images are kept decoded, so that no file is read any more."""
        return self.pixels is not None

    def image(self, position: int) -> Pixels | None:
        """Return one image (if kept: a view, not to be written to); None if its file is bad.

        A bad file is named in the log the first time that it is met.
        """
        if self.pixels is not None:
            return self._view(self.pixels, position)
        try:
            return self.read(position)
        except ImageError as error:
            if error.path not in self._named:
                self._named.add(error.path)
                log.warning("image left out: %s", error)
            return None

    def read(self, position: int) -> Pixels:
        """Read one image from its file, resized bilinearly as in v7.0. Raises ImageError."""
        path, expected = self.index.paths[position], tuple(self.index.sizes[position].tolist())
        image = read_image(path, upright=self.index.upright)
        if image.shape[:2] != expected:
            raise ImageError(
                path, f"its size is now {image.shape[:2]} (height, width), was {expected}"
            )
        return np.asarray(resize_image(image, self.size(position)), np.uint8)

    def size(self, position: int) -> tuple[int, int]:
        """Return (height, width) of one image."""
        return int(self.sizes[position, 0]), int(self.sizes[position, 1])

    def decode_into(self, pixels: Pixels, threads: int) -> tuple[ImageCache, list[BadImage]]:
        """Decode all into `pixels`; return the cache without images that failed, and those."""

        def decode(position: int) -> BadImage | None:
            try:
                self._view(pixels, position)[...] = self.read(position)
            except ImageError as error:
                return BadImage(position, error.path, error.reason)
            return None

        count = len(self.index)
        # Threads, because OpenCV decodes and resizes without holding the interpreter's lock.
        with ThreadPoolExecutor(max(1, threads)) as pool:
            decoded = progress_bar(pool.map(decode, range(count)), "reading images", total=count)
            bad = [failure for failure in decoded if failure is not None]
        good = np.setdiff1d(np.arange(count), [failure.position for failure in bad])
        index = self.index.subset(good) if bad else self.index
        kept = replace(
            self, index=index, sizes=self.sizes[good], starts=self.starts[good], pixels=pixels
        )
        return kept, bad

    def _view(self, pixels: Pixels, position: int) -> Pixels:
        height, width = self.size(position)
        start = int(self.starts[position])
        return pixels[start : start + height * width * 3].reshape(height, width, 3)


def open_image_cache(
    index: DatasetIndex,
    image_size: int,
    *,
    cache: str = "none",
    folder: str = "",
    threads: int = 1,
) -> tuple[ImageCache, list[BadImage]]:
    """Return the images of a data set with their long side at `image_size`, and those that failed.

    With `cache` 'ram' or 'disk' everything is decoded now by `threads` threads, if it fits into
    60% of the free memory or 90% of the disk under `folder` ('' for the system's temporary one).
    Images that fail are named in the log and dropped from the cache's index. Otherwise nothing is
    read yet and none can fail.
    """
    sizes = resized_sizes(index.sizes, image_size)
    ends = np.cumsum(sizes.prod(1) * 3)
    images = ImageCache(index, sizes, starts=ends - sizes.prod(1) * 3)
    needed = int(ends[-1]) if len(ends) else 0
    what, pixels = f"{len(index)} training images", None
    if cache == "ram" and fits_in_memory(needed, what):
        pixels = np.empty(needed, np.uint8)
    elif cache == "disk":
        pixels = array_on_disk(needed, Path(folder or tempfile.gettempdir()), what)
    if pixels is None:
        return images, []
    images, bad = images.decode_into(pixels, threads)
    for failure in bad[:_NAMED_AT_MOST]:
        log.warning("image left out: %s: %s", failure.path, failure.reason)
    if len(bad) > _NAMED_AT_MOST:
        log.warning("%d more images were left out", len(bad) - _NAMED_AT_MOST)
    return images, bad


def resized_sizes(sizes: npt.NDArray[np.integer], image_size: int) -> npt.NDArray[np.int64]:
    """Return (height, width) [n, 2] with the long side at `image_size`: rounded, at least 1."""
    if not len(sizes):
        return np.zeros((0, 2), np.int64)
    ratio = image_size / sizes.max(1, keepdims=True)
    return np.asarray(np.maximum(np.rint(sizes * ratio), 1), np.int64)


def fits_in_memory(needed: int, what: str) -> bool:
    """Return whether `needed` bytes are at most 60% of the free memory; if not, log it."""
    free = available_memory()
    if free is None or needed <= MEMORY_SHARE * free:
        return True
    log.warning(
        "%s would take %.1f GiB of memory and %.1f GiB are free: they are read from disk each time",
        what,
        needed / 2**30,
        free / 2**30,
    )
    return False


def array_on_disk(needed: int, folder: Path, what: str) -> Pixels | None:
    """Return `needed` bytes in a file of `folder`; None, and a warning, where they do not fit.

    The file has no name: no other process sees it, and it is gone with this one, however that
    ends. Its space is allocated at once: a disk that filled up later would end the process.
    """
    size = max(needed, 1)
    try:
        free = shutil.disk_usage(folder).free
        if size > DISK_SHARE * free:
            reason = f"{free / 2**30:.1f} GiB are free"
        else:
            with tempfile.TemporaryFile(dir=folder) as file:
                if hasattr(os, "posix_fallocate"):
                    os.posix_fallocate(file.fileno(), 0, size)
                pixels = np.memmap(file, np.uint8, "r+", shape=(size,))
            return np.asarray(pixels)[:needed]
    except OSError as error:
        reason = str(error)
    log.warning(
        "%s would take %.1f GiB in %s (%s): they are read from their files each time; the setting "
        "cache_dir may name another folder",
        what,
        size / 2**30,
        folder,
        reason,
    )
    return None


def available_memory(root: Path = Path("/")) -> int | None:
    """Return the bytes of memory still free for this process, or None where they are unknown.

    The smaller of what the machine and what the container (cgroup v2 or v1) have left; pages that
    merely cache files count as free. `root` is for tests.
    """
    candidates = []
    for line in _lines(root / "proc/meminfo"):
        if line.startswith("MemAvailable:"):
            candidates.append(int(line.split()[1]) * 1024)
    groups = (
        (root / "sys/fs/cgroup", "memory.max", "memory.current", "inactive_file"),
        (
            root / "sys/fs/cgroup/memory",
            "memory.limit_in_bytes",
            "memory.usage_in_bytes",
            "total_inactive_file",
        ),
    )
    for folder, limit_name, usage_name, cached_name in groups:
        limit, usage = _lines(folder / limit_name), _lines(folder / usage_name)
        if limit and usage and limit[0].isdigit():
            cached = [
                int(line.split()[1])
                for line in _lines(folder / "memory.stat")
                if line.startswith(cached_name + " ")
            ]
            candidates.append(max(int(limit[0]) - int(usage[0]) + sum(cached), 0))
    return min(candidates, default=None)


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="ascii").split("\n")
    except OSError:
        return []
