"""Weighted stages of a task as one number from 0 to 1 that only rises, told to a callable."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from tqdm import tqdm

Item = TypeVar("Item")


class Progress:
    """A piece of work: it moves by `update`, or is divided into stages that are such pieces too.

        progress = Progress(monitor.report)
        with progress.stage(0.1) as part:
            read_everything(part)
        with progress.stage(0.9) as part:
            for done, item in enumerate(items, start=1):
                part.update(done, len(items))

    `tell` gets a fraction in [0, 1], never smaller than the one before. It is called on every
    update: who listens decides how often to act on it.
    """

    def __init__(self, tell: Callable[[float], object]) -> None:
        self._tell = tell
        self._handed_out = 0.0
        self.fraction = 0.0

    def update(self, done: float, total: float) -> None:
        """`done` of `total` steps are behind us; nothing to do (`total` 0) counts as all done."""
        self._rise_to(done / total if total > 0 else 1.0)

    def follow(self, items: Iterable[Item], total: int) -> Iterator[Item]:
        """Pass on the `total` items of an iterable; one is done when the next is asked for."""
        for done, item in enumerate(items, start=1):
            yield item
            self.update(done, total)

    @contextmanager
    def stage(self, share: float, name: str = "") -> Iterator[Progress]:
        """The next `share` (0 to 1) of this work, as a Progress of its own; full when it is left.

        An exception leaves it where it stood. The shares of all stages must not exceed 1.
        """
        start = self._handed_out
        self._handed_out = start + share
        assert share >= 0.0, f"stage {name!r} has the negative share {share}"
        assert self._handed_out <= 1.0 + 1e-9, f"shares exceed 1 at stage {name!r}"
        yield Progress(lambda fraction: self._rise_to(start + share * fraction))
        self._rise_to(self._handed_out)

    def _rise_to(self, fraction: float) -> None:
        self.fraction = max(self.fraction, min(fraction, 1.0))
        self._tell(self.fraction)


def progress_bar(items: Iterable[Item], total: int, description: str) -> Iterator[Item]:
    """Yield the items; at a terminal a bar on stderr shows how many of `total` passed.

    The bar appears after a second, and goes with the last item.
    """
    yield from tqdm(items, description, total, leave=False, disable=None, delay=1)
