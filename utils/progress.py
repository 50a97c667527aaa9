"""Progress of a task: a fraction for the platform, and bars for a terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from tqdm import tqdm

from utils.environment import ranks

Item = TypeVar("Item")


class Progress:
    """A piece of work that moves by `update`, or is divided into stages that are such pieces too.

    `callback` gets a fraction in [0, 1], never smaller than the one before, on every update.
    """

    def __init__(self, callback: Callable[[float], object] = lambda fraction: None) -> None:
        self._callback = callback
        self._allotted = 0.0
        self.fraction = 0.0

    def update(self, done: float, total: float) -> None:
        """Set progress to `done` of `total` steps; nothing to do (`total` 0) counts as all done."""
        self._rise_to(done / total if total > 0 else 1.0)

    def follow(self, items: Iterable[Item], total: int) -> Iterator[Item]:
        """Yield the `total` items of an iterable; one is done when the next is asked for."""
        for done, item in enumerate(items, start=1):
            yield item
            self.update(done, total)

    def again(self) -> Progress:
        """Return the same work from its start: it reports nothing until it is further than this."""
        return Progress(self._rise_to)

    @contextmanager
    def stage(self, share: float) -> Iterator[Progress]:
        """Yield the next `share` (0 to 1) of this work as a Progress; it is full on exit.

        An exception leaves it where it stood. The shares of all stages must not exceed 1.
        """
        start = self._allotted
        self._allotted = start + share
        assert start <= self._allotted <= 1.0 + 1e-9, f"a share of {share} after {start}"
        yield Progress(lambda fraction: self._rise_to(start + share * fraction))
        self._rise_to(self._allotted)

    def _rise_to(self, fraction: float) -> None:
        self.fraction = max(self.fraction, min(fraction, 1.0))
        self._callback(self.fraction)


def progress_bar(
    items: Iterable[Item], description: str, *, total: int | None = None, unit: str = "image"
) -> tqdm[Item]:
    """Wrap an iterable in a tqdm bar if standard error is a terminal.

    Nothing is shown by ranks above 0. `total` is needed for an iterator. The bar goes when it is
    full.
    """
    hidden = True if ranks()[0] > 0 else None  # None: unless at a terminal
    return tqdm(items, description, total=total, unit=unit, leave=False, disable=hidden)
