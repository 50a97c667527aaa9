"""Batches worked on side by side: on a CPU one lane per core, each computing with one thread."""

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
"""Items of differing shapes wait for company up to this many batches in all."""


class WorkerPool:
    """Runs a function over a stream of batches, several at once, results in order.

    On a CPU whole batches side by side beat many threads inside each operation: no core waits for
    another between layers, nor while one batch is decoded or suppressed, and the numbers do not
    depend on how many cores there are. A GPU is fed by one lane: the calling thread.
    """

    def __init__(self, device: torch.device) -> None:
        self.count = torch.get_num_threads() if device.type == "cpu" else 1
        self._pool = _single_threaded_pool(self.count) if self.count > 1 else None

    def map(self, function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
        """`function(item)` for every item, in order; at most one item more than lanes waits."""
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
    section_of: Callable[[Item], int] | None = None,
) -> Iterator[list[Item]]:
    """Items in batches of one shape, as they fill; one whose shape is None comes alone, at once.

    Items of differing shapes wait for company up to `WAITING_BATCHES` batches in all,
    and never for an item of another section (in a stream that does not go back to an earlier one).
    """
    waiting: dict[Hashable, list[Item]] = {}
    section = 0
    for item in items:
        if section_of is not None and section_of(item) != section:
            section = section_of(item)
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
    """Threads in which torch computes with a single thread; the caller keeps its own."""
    threads = torch.get_num_threads()
    everyone_is_here = Barrier(count)
    pool = ThreadPoolExecutor(count, thread_name_prefix="lane", initializer=_compute_alone)
    list(pool.map(lambda _: everyone_is_here.wait(), range(count)))
    # What the lanes set is also torch's default for threads to come: put it back.
    torch.set_num_threads(threads)
    return pool


def _compute_alone() -> None:
    """Give the calling thread, and no other, a single thread to compute with."""
    torch.get_num_threads()  # takes the common number now; later it would undo the next line
    torch.set_num_threads(1)
