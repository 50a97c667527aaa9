"""Whole records, and the reader that keeps the others."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from bench.fault_watch import Watch, is_whole


@pytest.mark.parametrize(
    ("record", "whole"),
    [
        (b"t\t1700000000.5\t0\t2\t0\n", True),
        (b"t\t1700000000.5\t0.5\t2\t0\nfree text\n", True),
        (b"t\t1700000000.5\t1.0\t4\t300001\tsentence\n", True),
        (b"", False),
        (b"t\t1700000000.5\t0\t1\n", False),
        (b"t\t1700000000.5\t0.5\n", False),
        (b"t\t1700000000.5\t0.5\t2\t0", False),
        (b"t\t1700000000.5\t2.5\t2\t0\n", False),
        (b"t\t1700000000.5\t0.5\tx\t0\n", False),
        (b"t\t1700000000.5\t0.5\t2\tx\n", False),
    ],
)
def test_whole_records(record: bytes, whole: bool) -> None:
    assert is_whole(record) == whole


def line(time_: float, progress: float) -> bytes:
    return f"t\t{time_:.6f}\t{progress}\t2\t0\n".encode()


@pytest.mark.parametrize(
    ("records", "broken"),
    [
        pytest.param([line(5, 0.1), line(6, 0.1), line(7, 0.4)], 0, id="rising"),
        pytest.param([line(5, 0.1), b"half"], 1, id="a part"),
        pytest.param([line(5, 0.4), line(6, 0.1)], 1, id="progress falls"),
        pytest.param([line(5, 0.4), line(4, 0.5)], 1, id="time falls"),
        pytest.param([line(5, 0.4), None, line(6, 0.1)], 0, id="started again"),
    ],
)
def test_what_the_watch_keeps(tmp_path: Path, records: list[bytes | None], broken: int) -> None:
    path = tmp_path / "monitor.txt"
    path.write_bytes(b"t\t1\t0\t1\n")  # the platform's own, with four columns
    with Watch(path) as watch:
        for count, record in enumerate(records, start=1):
            if record is None:
                watch.records += 1
                watch.started_again()
                continue
            whole = tmp_path / "next"
            whole.write_bytes(record)
            whole.replace(path)
            while watch.records < count:
                time.sleep(0.001)
    assert len(watch.broken) == broken
    assert watch.reads >= sum(record is not None for record in records)
