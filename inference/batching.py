"""Batches of equal shape, and a worker pool that computes several of them at once."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Barrier
from typing import TypeVar

import torch

Item = TypeVar("Item")
Result = TypeVar("Result")

WAITING_BATCHES = 4
"""Batches' worth of items of differing shapes that wait for others of their shape at most."""


class WorkerPool:
    """Worker pool that maps a function over a stream of batches, with results in order.

    On a CPU there is a worker for each core, which computes with one thread: whole batches side by
    side beat many threads inside each operation, as no core waits for another between layers, and
    numbers do not depend on how many cores there are. A GPU is fed by the calling thread.
    """

    def __init__(self, device: torch.device) -> None:
        self.count = torch.get_num_threads() if device.type == "cpu" else 1
        self._pool = _single_threaded_pool(self.count) if self.count > 1 else None

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
