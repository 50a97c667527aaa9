"""Seconds of work, by CUDA events on a GPU, and how busy it was by torch's profiler.

It imports torch alone: bench/run_peer.py has it in the peer's environment too.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any

import torch


class Clock:
    """Tells moments: on a GPU events in its current stream, elsewhere the time of the machine."""

    def __init__(self, *, on_gpu: bool) -> None:
        self.on_gpu = on_gpu

    def now(self) -> Any:
        """Return this moment; on a GPU when it has done what was launched before."""
        if not self.on_gpu:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def seconds(self, start: Any, end: Any) -> float:
        """Return the seconds between two moments; waits for the second one."""
        if not self.on_gpu:
            return float(end - start)
        end.synchronize()
        return float(start.elapsed_time(end)) / 1000


class Load:
    """How busy a GPU is from now on; a profiler runs meanwhile, so nothing should be timed."""

    def __init__(self) -> None:
        self.profiler = torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA])
        self.profiler.start()
        torch.cuda.synchronize()
        self.started = time.perf_counter()

    def end(self) -> float:
        """Return the share of the time in which at least one kernel ran."""
        torch.cuda.synchronize()
        seconds = time.perf_counter() - self.started
        self.profiler.stop()
        events = self.profiler.events() or ()
        return covered(spans_of_kernels(events)) / 1e6 / seconds


def spans_of_kernels(events: Iterable[Any]) -> list[tuple[float, float]]:
    """Return start and end, in microseconds, of the kernels of a profile: not of copies."""
    return [
        (event.time_range.start, event.time_range.end)
        for event in events
        if event.device_type.name == "CUDA"
        and not getattr(event, "is_user_annotation", False)
        and not event.name.startswith(("Memcpy", "Memset"))
    ]


def covered(spans: Iterable[tuple[float, float]]) -> float:
    """Return the length of the union of spans."""
    total, reached = 0.0, float("-inf")
    for start, end in sorted(spans):
        total += max(0.0, end - max(start, reached))
        reached = max(reached, end)
    return total


def measure(
    work: Callable[[], object],
    *,
    on_gpu: bool,
    passes: int = 1,
    first: Callable[[], object] | None = None,
) -> dict[str, Any]:
    """Return the seconds of each pass of `work`, and the share `busy` of a GPU in one more.

    `first` runs before and is not counted; without it `work` does on a GPU, where the first pass
    chooses and records kernels.
    """
    if first or on_gpu:
        (first or work)()
    clock, seconds = Clock(on_gpu=on_gpu), []
    for _ in range(passes):
        start = clock.now()
        work()
        seconds.append(clock.seconds(start, clock.now()))
    if not on_gpu:
        return {"seconds": seconds}
    load = Load()
    work()
    return {"seconds": seconds, "busy": load.end()}
