"""The time that the images of an evaluation take: by stage, and in all by the clock."""

from __future__ import annotations

from threading import Lock
from time import perf_counter
from types import TracebackType

import torch

Mark = float | torch.cuda.Event
"""A point in time, of the host or of a GPU."""
DECODING, NETWORK, NMS = "decode", "network", "NMS"


class Stopwatch:
    """The seconds of each stage, summed over its workers; a context manager for those of the clock.

    May be called from many threads. On a GPU network and NMS are timed by its own events, read
    once their batch is on the host: nothing waits for them.
    """

    def __init__(self, device: torch.device) -> None:
        self._is_gpu = device.type == "cuda"
        self._lock = Lock()
        self._began = 0.0
        self.seconds: dict[str, float] = {}
        self.images = 0
        self.elapsed = 0.0

    def __enter__(self) -> Stopwatch:
        self._began = perf_counter()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.elapsed = perf_counter() - self._began

    def mark(self) -> Mark:
        """Return this point of the work that the device has been told to do."""
        if not self._is_gpu:
            return perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def add(self, stage: str, seconds: float) -> None:
        """Add seconds of a stage."""
        with self._lock:
            self.seconds[stage] = self.seconds.get(stage, 0.0) + seconds

    def add_between(self, stage: str, first: Mark, last: Mark) -> None:
        """Add what lies between two marks that the device has passed."""
        if isinstance(first, float) and isinstance(last, float):
            self.add(stage, last - first)
        elif isinstance(first, torch.cuda.Event) and isinstance(last, torch.cuda.Event):
            self.add(stage, first.elapsed_time(last) / 1000)

    def line(self, workers: int) -> str:
        """Format the time of an image: by stage on one worker of it, and with all by the clock."""
        count = max(self.images, 1)
        stages = ", ".join(f"{name} {1e3 * s / count:.1f} ms" for name, s in self.seconds.items())
        rate = self.images / self.elapsed if self.elapsed else 0.0
        where = "the GPU" if self._is_gpu else "1 thread" if workers == 1 else f"{workers} threads"
        told = f"{1e3 * self.elapsed / count:.1f} ms by the clock on {where}, {rate:.1f} images/s"
        return f"speed per image: {f'{stages} (each on one worker); ' if stages else ''}{told}"
