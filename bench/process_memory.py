"""The memory of a process and its children, looked at from outside while they run. Linux only."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

PROCESSES = Path("/proc")
KIB = 1024


def tree(process: int) -> Iterator[int]:
    """A process and all that come from it, as far as they are there."""
    yield process
    for thread in _listed(PROCESSES / str(process) / "task"):
        try:
            children = (thread / "children").read_text("ascii").split()
        except OSError:
            continue
        for child in children:
            yield from tree(int(child))


def proportional_mib(process: int) -> float:
    """MiB resident of one process, each shared page by its share; 0 if it is gone."""
    try:
        text = (PROCESSES / str(process) / "smaps_rollup").read_text("ascii")
    except OSError:
        return 0.0
    return sum(int(line.split()[1]) for line in text.splitlines() if line.startswith("Pss:")) / KIB


class MemoryWatch:
    """Remembers the most memory that a process and its children held; a context manager.

    Shared pages count once, so that workers that share pictures are not held to take more than
    they do.
    """

    def __init__(self, process: int, *, interval: float = 0.2) -> None:
        self.peak = 0.0
        """MiB."""
        self._process = process
        self._interval = interval
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> MemoryWatch:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while True:
            held = sum(proportional_mib(one) for one in set(tree(self._process)))
            self.peak = max(self.peak, held)
            if self._over.wait(self._interval):
                return


def _listed(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError:
        return []
