"""Training images at training size: kept decoded in memory or on disk, or read on request."""

from __future__ import annotations

import logging
import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from data.dataset_index import DatasetIndex
from data.images import ImageError, Pixels, read_image
from data.workers import thread_count
from ops.letterbox import PAD_VALUE, fit_long_side, resize_image
from utils.progress import progress_bar

log = logging.getLogger(__name__)

MEMORY_SHARE = 0.6
"""Part of the free memory that images may take; the rest is for the network and the workers."""
DISK_SHARE = 0.9
"""Part of the free disk that images may take."""
PORTION = 1 << 26
"""Bytes of images, one image at least, that are copied to the device at a time."""
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
    in memory or in a file, so that forked workers share all of it. Or `on_device` holds them on the
    training device, uint8 [p, 3] from row `starts` / 3 + 1 on, after a grey row for what lies
    outside of images.
    """

    index: DatasetIndex
    sizes: npt.NDArray[np.int64]
    starts: npt.NDArray[np.int64]
    pixels: Pixels | None = None
    on_device: Tensor | None = None
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

    @property
    def rows(self) -> npt.NDArray[np.int64] | None:
        """The first row of each image [n] on the device; None where they are not kept there."""
        return None if self.on_device is None else self.starts // 3 + 1

    def decode_into(self, pixels: Pixels) -> ImageCache:
        """Decode all into `pixels`; images that fail are named in the log and left out."""
        return replace(self._decode([(range(len(self.index)), pixels)]), pixels=pixels)

    def decode_onto(self, store: Tensor) -> ImageCache:
        """Decode all into rows uint8 [p, 3] on a device; otherwise as `decode_into`."""
        store[0] = PAD_VALUE
        return replace(self._decode(self._portions(store.view(-1))), on_device=store)

    def _portions(self, store: Tensor) -> Iterator[tuple[range, Pixels]]:
        """Yield images in order, and memory for them, which is copied to the device afterwards."""
        ends = self.starts + self.sizes.prod(1) * 3
        staging, first = torch.empty(0, dtype=torch.uint8), 0
        while first < len(ends):
            start = int(self.starts[first])
            after = max(int(np.searchsorted(ends, start + PORTION, "right")), first + 1)
            size = int(ends[after - 1]) - start
            if size > len(staging):
                staging = torch.empty(size, dtype=torch.uint8)
                staging = staging.pin_memory() if store.is_cuda else staging
            yield range(first, after), staging[:size].numpy()
            store[3 + start : 3 + start + size].copy_(staging[:size])
            first = after

    def _decode(self, portions: Iterable[tuple[range, Pixels]]) -> ImageCache:
        """Decode images into the memory of each portion; return the cache without those that fail.

        Those are named in the log.
        """
        # Threads, because OpenCV decodes and resizes without holding the interpreter's lock.
        with ThreadPoolExecutor(thread_count()) as pool:
            decoded = (
                fault
                for positions, pixels in portions
                for fault in pool.map(partial(self._read_into, pixels, positions.start), positions)
            )
            faults = list(progress_bar(decoded, "reading images", total=len(self.index)))
        bad = [fault for fault in faults if fault is not None]
        for fault in bad[:_NAMED_AT_MOST]:
            log.warning("image left out: %s", fault)
        if len(bad) > _NAMED_AT_MOST:
            log.warning("%d more images were left out", len(bad) - _NAMED_AT_MOST)
        good = np.flatnonzero([fault is None for fault in faults])
        index, sizes, starts = self.index.subset(good), self.sizes[good], self.starts[good]
        return replace(self, index=index, sizes=sizes, starts=starts)

    def _read_into(self, pixels: Pixels, first: int, position: int) -> ImageError | None:
        """Read an image into `pixels`, which begin with image `first`; return its error, if any."""
        try:
            self._view(pixels, position, first)[...] = self.read(position)
        except ImageError as error:
            return error
        return None

    def _view(self, pixels: Pixels, position: int, first: int = 0) -> Pixels:
        height, width = self.size(position)
        # Bytes before the image; those of images that failed count.
        start = int(self.starts[position] - (self.starts[first] if first else 0))
        return pixels[start : start + height * width * 3].reshape(height, width, 3)


def open_image_cache(
    index: DatasetIndex,
    image_size: int,
    *,
    cache: str = "none",
    folder: str = "",
    device: torch.device | None = None,
    device_share: float = 0.3,
) -> ImageCache:
    """Return the images of a data set with their long side at `image_size`.

    With `cache` 'ram' or 'disk' everything is decoded now, if it fits into 60% of the free memory
    or 90% of the disk under `folder` ('' for the system's temporary one); images that fail are
    named in the log and dropped from the cache's index. 'gpu' keeps it on `device`, if it fits into
    `device_share` of the free memory there, else as 'ram'; 'auto' is 'gpu' with a `device` that has
    memory of its own, else 'ram'. Otherwise nothing is read yet.
    """
    resized = [fit_long_side((height, width), image_size) for height, width in index.sizes.tolist()]
    sizes = np.array(resized, np.int64).reshape(-1, 2)
    ends = np.cumsum(sizes.prod(1) * 3)
    images = ImageCache(index, sizes, starts=ends - sizes.prod(1) * 3)
    needed = int(ends[-1]) if len(ends) else 0
    what, pixels = f"{len(index)} training images", None
    if device is not None and (cache == "gpu" or (cache == "auto" and device.type != "cpu")):
        store = memory_on_device(needed, device, device_share, what)
        if store is not None:
            return images.decode_onto(store)
    if cache in ("auto", "gpu", "ram") and fits_in_memory(needed, what):
        pixels = np.empty(needed, np.uint8)
    elif cache == "disk":
        pixels = array_on_disk(needed, Path(folder or tempfile.gettempdir()), what)
    return images if pixels is None else images.decode_into(pixels)


def memory_on_device(needed: int, device: torch.device, share: float, what: str) -> Tensor | None:
    """Return rows uint8 [1 + `needed` / 3, 3] there; None, and a warning, where they do not fit."""
    if device.type == "cuda":
        free: int | None = torch.cuda.mem_get_info(device)[0]
    else:
        free = available_memory()
    told = (what, needed / 2**30, device, "unknown" if free is None else f"{free / 2**30:.1f} GiB")
    if free is None or needed <= share * free:
        with suppress(torch.cuda.OutOfMemoryError, MemoryError):
            store = torch.empty((1 + needed // 3, 3), dtype=torch.uint8, device=device)
            log.info("%s are kept decoded on the device: %.1f GiB on %s, of %s free", *told)
            return store
    log.warning(
        "%s would take %.1f GiB on %s and may take %g of %s free (setting cache_share): they are "
        "not kept there",
        *told[:3],
        share,
        told[3],
    )
    return None


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
