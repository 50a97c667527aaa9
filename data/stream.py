"""A stream of decoded images for inference, prefetched by threads."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from data.images import ImageError, Jpeg, Pixels, content_mark, read_image
from data.workers import thread_count

Prepared = TypeVar("Prepared")
Read = Callable[[str], Pixels | Jpeg]
"""Reads a file to BGR uint8 [h, w, 3], or leaves a JPEG as it is. Raises ImageError."""

NO_MEMORY = "not enough memory to decode it"


@dataclass(frozen=True)
class DecodedImage:
    """One image of a stream: BGR uint8 [h, w, 3], or None and the reason in `error`.

    `mark` is its `content_mark`. A `jpeg` is what a device is to decode; `image` is None then.
    """

    position: int
    path: str
    image: Pixels | None
    error: str | None = None
    mark: str = ""
    jpeg: Jpeg | None = None

    @property
    def size(self) -> tuple[int, int] | None:
        """(height, width) of the image, None for an unreadable one."""
        if self.jpeg is not None:
            return self.jpeg.size
        return None if self.image is None else (self.image.shape[0], self.image.shape[1])


def stream_images(
    paths: Sequence[str],
    *,
    workers: int = -1,
    prefetch: int = 16,
    positions: Iterable[int] | None = None,
    upright: bool = False,
    pixels: Mapping[int, Pixels] | None = None,
) -> Iterator[DecodedImage]:
    """Decode files in the order given, at most `prefetch` of them ahead of the consumer.

    `workers` -1: one thread per CPU, at most 64. `positions` selects those of `paths` to read,
    in that order, for example a shard; the next one is taken when its image is about to be read.
    `upright` turns images as their orientation tags say; `pixels` are images by position, BGR, that
    are decoded already.
    """
    return stream_prepared(
        *(paths, lambda decoded: decoded),
        workers=workers,
        prefetch=prefetch,
        positions=positions,
        read=partial(read_image, upright=upright),
        pixels=pixels,
    )


def stream_prepared(
    paths: Sequence[str],
    prepare: Callable[[DecodedImage], Prepared],
    *,
    workers: int = -1,
    prefetch: int = 16,
    positions: Iterable[int] | None = None,
    read: Read = read_image,
    pixels: Mapping[int, Pixels] | None = None,
) -> Iterator[Prepared]:
    """Yield what `prepare` makes of each image, in the thread that read it; see `stream_images`.

    By threads: OpenCV works without holding the interpreter's lock, and nothing has to travel
    through /dev/shm, which is small in many containers.
    """
    known = pixels or {}
    threads = workers if workers > 0 else thread_count()
    waiting: deque[Future[Prepared]] = deque()
    pool = ThreadPoolExecutor(threads)

    def work(position: int) -> Prepared:
        decoded = _decode(position, paths[position], read, known.get(position))
        try:
            return prepare(decoded)
        except MemoryError:
            return prepare(DecodedImage(position, decoded.path, None, NO_MEMORY))

    try:
        for position in range(len(paths)) if positions is None else positions:
            waiting.append(pool.submit(work, position))
            if len(waiting) >= max(prefetch, 1):
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def _decode(position: int, path: str, read: Read, pixels: Pixels | None) -> DecodedImage:
    try:
        if pixels is not None:
            return DecodedImage(position, path, pixels)
        found, mark = read(path), content_mark(path)
        if isinstance(found, Jpeg):
            return DecodedImage(position, path, None, mark=mark, jpeg=found)
        return DecodedImage(position, path, found, mark=mark)
    except ImageError as error:
        return DecodedImage(position, path, None, error.reason)
    except MemoryError:
        return DecodedImage(position, path, None, NO_MEMORY)
