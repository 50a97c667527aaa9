"""Training images at training size: kept decoded in memory or on disk, or read on request."""

from __future__ import annotations

import logging
import os
import re
import shutil
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from data.dataset_index import DatasetIndex
from data.images import ImageError, Pixels, read_image
from data.workers import thread_count
from ops.letterbox import fit_long_side, resize_image
from utils.progress import progress_bar

log = logging.getLogger(__name__)

MEMORY_SHARE = 0.6
"""Part of the free memory that images may take; the rest is for the network and the workers."""
DISK_SHARE = 0.9
"""Part of the free disk that images may take."""
_NAMED_AT_MOST = 10  # bad files named in the log one by one; the rest is only counted
_CGROUPS = (  # folder; files of the limit and of the usage; pages that cache files, in memory.stat
    ("", "memory.max", "memory.current", "inactive_file"),
    ("memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
)


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

    def decode_into(self, pixels: Pixels) -> ImageCache:
        """Decode all into `pixels`; images that fail are named in the log and left out."""

        def decode(position: int) -> ImageError | None:
            try:
                self._view(pixels, position)[...] = self.read(position)
            except ImageError as error:
                return error
            return None

        count = len(self.index)
        # Threads, because OpenCV decodes and resizes without holding the interpreter's lock.
        with ThreadPoolExecutor(thread_count()) as pool:
            decoded = pool.map(decode, range(count))
            faults = list(progress_bar(decoded, "reading images", total=count))
        bad = [fault for fault in faults if fault is not None]
        for fault in bad[:_NAMED_AT_MOST]:
            log.warning("image left out: %s", fault)
        if len(bad) > _NAMED_AT_MOST:
            log.warning("%d more images were left out", len(bad) - _NAMED_AT_MOST)
        good = np.flatnonzero([fault is None for fault in faults])
        index, sizes, starts = self.index.subset(good), self.sizes[good], self.starts[good]
        return replace(self, index=index, sizes=sizes, starts=starts, pixels=pixels)

    def _view(self, pixels: Pixels, position: int) -> Pixels:
        height, width = self.size(position)
        start = int(self.starts[position])
        return pixels[start : start + height * width * 3].reshape(height, width, 3)


def open_image_cache(
    index: DatasetIndex, image_size: int, *, cache: str = "none", folder: str = ""
) -> ImageCache:
    """Return the images of a data set with their long side at `image_size`.

    With `cache` 'ram' or 'disk' everything is decoded now, if it fits into 60% of the free memory
    or 90% of the disk under `folder` ('' for the system's temporary one); images that fail are
    named in the log and dropped from the cache's index. Otherwise nothing is read yet.
    """
    resized = [fit_long_side((height, width), image_size) for height, width in index.sizes.tolist()]
    sizes = np.array(resized, np.int64).reshape(-1, 2)
    ends = np.cumsum(sizes.prod(1) * 3)
    images = ImageCache(index, sizes, starts=ends - sizes.prod(1) * 3)
    needed = int(ends[-1]) if len(ends) else 0
    what, pixels = f"{len(index)} training images", None
    if cache == "ram" and fits_in_memory(needed, what):
        pixels = np.empty(needed, np.uint8)
    elif cache == "disk":
        pixels = array_on_disk(needed, Path(folder or tempfile.gettempdir()), what)
    return images if pixels is None else images.decode_into(pixels)


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
    free = [kib * 1024 for kib in _numbers(root / "proc/meminfo", "MemAvailable:")]
    for folder, limit, usage, cached in _CGROUPS:
        group = root / "sys/fs/cgroup" / folder
        most, used = _numbers(group / limit), _numbers(group / usage)
        if most and used:
            files = sum(_numbers(group / "memory.stat", cached))
            free.append(max(most[0] - used[0] + files, 0))
    return min(free, default=None)


def _numbers(path: Path, name: str = "") -> list[int]:
    """Return the number of each line that begins with `name`; none where there is no file."""
    try:
        text = path.read_text(encoding="ascii")
    except OSError:
        return []
    return [int(number) for number in re.findall(rf"^{name}\s*(\d+)", text, flags=re.MULTILINE)]
