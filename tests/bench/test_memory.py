"""The straight line through memory over time, and the two looks at this process."""

from __future__ import annotations

import mmap
import sys
import threading

import pytest

from bench.memory import Sample, resident_mib, slope_per_hour, summary, thread_number

linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


def line(grow: float, *, start: float = 500.0, jump: float = 0.0) -> list[Sample]:
    """A sample a minute for an hour: `grow` MiB an hour, after a first half higher by `jump`."""
    return [
        Sample(minute, 60.0 * minute, start + grow * minute / 60 + jump * (minute < 30), 3)
        for minute in range(61)
    ]


@pytest.mark.parametrize(
    ("samples", "slope"),
    [
        pytest.param(line(0.0), 0.0, id="flat"),
        pytest.param(line(12.0), 12.0, id="grows"),
        pytest.param(line(-3.0), -3.0, id="shrinks"),
        pytest.param(line(12.0, jump=-200.0), 12.0, id="the first half does not count"),
        pytest.param(line(5.0)[:1], 0.0, id="one epoch says nothing"),
        pytest.param([], 0.0, id="none"),
    ],
)
def test_slope(samples: list[Sample], slope: float) -> None:
    assert slope_per_hour(samples) == pytest.approx(slope, abs=1e-6)


def test_summary_names_the_numbers() -> None:
    text = summary(line(60.0))
    assert "61 epochs in 60.0 min" in text
    assert "first 500, last 560, maximum 560" in text
    assert "+60.0 MiB/h" in text


@linux
def test_memory_that_is_used_is_seen() -> None:
    size = 64 * 2**20
    before = resident_mib()
    with mmap.mmap(-1, size) as fresh:  # an allocator might hand out memory that it holds already
        fresh.write(b"x" * size)
        assert resident_mib() - before > 50


@linux
def test_threads_are_counted() -> None:
    wait = threading.Event()
    before = thread_number()
    thread = threading.Thread(target=wait.wait)
    thread.start()
    assert thread_number() == before + 1
    wait.set()
    thread.join()
