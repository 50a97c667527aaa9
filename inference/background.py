"""Work on a stream by another thread, in order, so that who makes the stream need not wait."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Event
from typing import TypeVar

Item = TypeVar("Item")

ITEMS_BEHIND = 64
"""Items that the other thread may be behind."""


def done_behind(items: Iterable[Item], work: Callable[[Item], object]) -> Iterator[Item]:
    """Yield each item once another thread is done with it: one thread, in order of the items.

    What `work` raises comes out here, and no later item gets to it. If the stream or the consumer
    ends early, items that are out of the stream are still worked on before this ends.
    """
    waiting: deque[tuple[Item, Future[None]]] = deque()
    failed = Event()

    def work_on(item: Item) -> None:
        if failed.is_set():
            return
        try:
            work(item)
        except BaseException:
            failed.set()
            raise

    def first() -> Item:
        item, future = waiting.popleft()
        future.result()
        return item

    with ThreadPoolExecutor(1, thread_name_prefix="writer") as thread:
        for item in items:
            waiting.append((item, thread.submit(work_on, item)))
            while waiting and (waiting[0][1].done() or len(waiting) > ITEMS_BEHIND):
                yield first()
        while waiting:
            yield first()
