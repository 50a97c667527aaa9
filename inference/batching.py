"""Batches of equal shape, buffers for them, and a worker pool that has several in work."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from threading import Barrier, Lock
from typing import Generic, TypeVar

import torch
from torch import Tensor

Item = TypeVar("Item")
Result = TypeVar("Result")
Filled = TypeVar("Filled")
Launched = TypeVar("Launched")

WAITING_BATCHES = 4
"""Batches' worth of items of differing shapes that wait for others of their shape at most."""
FILLED_AHEAD = 2
"""Batches that threads fill for a GPU while it computes one."""


@dataclass(frozen=True)
class Steps(Generic[Item, Filled, Launched, Result]):
    """What is done with a batch: filled on the host, launched on the device, then fetched."""

    fill: Callable[[Item], Filled]
    launch: Callable[[Filled], Launched]
    fetch: Callable[[Launched], Result]
    """Waits for the device."""

    def __call__(self, item: Item) -> Result:
        """Take all steps, one after the other."""
        return self.fetch(self.launch(self.fill(item)))


class WorkerPool:
    """Worker pool that maps a function over a stream of batches, with results in order.

    On a CPU there is a worker for each core, which computes with one thread: whole batches side by
    side beat many threads inside each operation, as no core waits for another between layers, and
    numbers do not depend on how many cores there are. A GPU is fed by the calling thread.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.buffers = Buffers(device)
        self.count = torch.get_num_threads() if device.type == "cpu" else 1
        self._pool = _single_threaded_pool(self.count) if self.count > 1 else None

    def pipeline(
        self, steps: Steps[Item, Filled, Launched, Result], items: Iterable[Item]
    ) -> Iterator[Result]:
        """Yield `steps(item)` in order of the items.

        For a GPU a batch is launched before that before it is fetched, while threads fill others.
        """
        if self.device.type == "cpu":
            yield from self.map(steps, items)
            return
        filled: deque[Future[Filled]] = deque()
        launched: deque[Launched] = deque()
        threads = ThreadPoolExecutor(FILLED_AHEAD)
        try:
            for item in items:
                filled.append(threads.submit(steps.fill, item))
                if len(filled) > FILLED_AHEAD:
                    launched.append(steps.launch(filled.popleft().result()))
                if len(launched) > 1:
                    yield steps.fetch(launched.popleft())
            while filled or launched:
                if filled:
                    launched.append(steps.launch(filled.popleft().result()))
                if len(launched) > 1 or not filled:
                    yield steps.fetch(launched.popleft())
        finally:
            threads.shutdown(cancel_futures=True)

    def map(self, function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
        """Yield `function(item)` in order of the items; at most one more than workers is ahead."""
        if self._pool is None:
            yield from map(function, items)
            return
        running: deque[Future[Result]] = deque()
        try:
            for item in items:
                running.append(self._pool.submit(function, item))
                if len(running) > self.count:
                    yield running.popleft().result()
            while running:
                yield running.popleft().result()
        finally:
            for future in running:
                future.cancel()


@dataclass(frozen=True)
class Sharding:
    """The part of a stream that one of several processes predicts."""

    size: int
    """Images of a shard; no batch mixes images of two shards."""
    positions: Iterable[int]
    """The images to predict: whole shards in rising order."""
    workers: int
    """Workers of the pools of all processes."""


@dataclass(frozen=True)
class Buffer:
    """Memory of the host as a tensor of some shape and type."""

    tensor: Tensor
    memory: Tensor
    """All of it: uint8 [bytes]."""


class Buffers:
    """Buffers that are used again and again, pinned for a GPU; may be called from many threads."""

    def __init__(self, device: torch.device) -> None:
        self._is_pinned = device.type == "cuda"
        self._free: list[Tensor] = []
        self._lock = Lock()

    def take(self, shape: Sequence[int], dtype: torch.dtype = torch.uint8) -> Buffer:
        """Return a buffer of a shape and type, with whatever was in it."""
        size = math.prod(shape) * dtype.itemsize
        with self._lock:
            fitting = [number for number, one in enumerate(self._free) if len(one) >= size]
            if fitting:
                memory = self._free.pop(fitting[0])
            else:
                self._free.clear()  # as many as are in use at once stay, of the largest size
                memory = torch.empty(size, dtype=torch.uint8)
                memory = memory.pin_memory() if self._is_pinned else memory
        return Buffer(memory[:size].view(dtype).view(*shape), memory)

    def give_back(self, buffer: Buffer) -> None:
        """Let a buffer be used again."""
        with self._lock:
            self._free.append(buffer.memory)


def bucket_by_shape(
    items: Iterable[Item],
    shape_of: Callable[[Item], Hashable | None],
    batch_size: int,
    *,
    shard_of: Callable[[Item], int] | None = None,
) -> Iterator[list[Item]]:
    """Yield items in batches of one shape as they fill; one whose shape is None comes alone.

    Items of differing shapes wait for others, up to `WAITING_BATCHES` batches in all. Batches end
    with each shard; shards must follow each other in the stream.
    """
    waiting: dict[Hashable, list[Item]] = {}
    shard = 0
    for item in items:
        if shard_of is not None and shard_of(item) != shard:
            shard = shard_of(item)
            yield from waiting.values()
            waiting = {}
        shape = shape_of(item)
        if shape is None:
            yield [item]
            continue
        group = waiting.setdefault(shape, [])
        group.append(item)
        if len(group) == batch_size:
            yield waiting.pop(shape)
        elif sum(map(len, waiting.values())) >= WAITING_BATCHES * batch_size:
            yield waiting.pop(max(waiting, key=lambda other: len(waiting[other])))
    yield from waiting.values()


def _single_threaded_pool(count: int) -> ThreadPoolExecutor:
    """Return a pool whose threads run torch with a single thread; the caller keeps its own."""
    threads = torch.get_num_threads()
    started = Barrier(count)

    def use_one_thread() -> None:
        torch.get_num_threads()  # reads the common number now; later it would undo the next line
        torch.set_num_threads(1)

    pool = ThreadPoolExecutor(count, thread_name_prefix="worker", initializer=use_one_thread)
    list(pool.map(lambda _: started.wait(), range(count)))
    # What the workers set is also torch's default for later threads: restore it.
    torch.set_num_threads(threads)
    return pool
