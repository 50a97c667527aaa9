"""The parts of the fault bench that need no task: whole records, the watcher, the table."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from bench.faults import Outcome, Watch, is_whole, table


@pytest.mark.parametrize(
    ("record", "whole"),
    [
        (b"t\t1700000000.5\t0\t1\n", True),
        (b"t\t1700000000.5\t0.5\t2\t0\nfree text\n", True),
        (b"t\t1700000000.5\t1.0\t4\t300001\tsentence\n", True),
        (b"", False),
        (b"t\t1700000000.5\t0.5\n", False),
        (b"t\t1700000000.5\t0.5\t2\t0", False),
        (b"t\t1700000000.5\t2.5\t2\t0\n", False),
        (b"t\t1700000000.5\t0.5\tx\t0\n", False),
    ],
)
def test_whole_records(record: bytes, whole: bool) -> None:
    assert is_whole(record) == whole


def test_the_watch_keeps_broken_records(tmp_path: Path) -> None:
    path = tmp_path / "monitor.txt"
    path.write_bytes(b"half")
    with Watch(path) as watch:
        while not watch.broken:
            time.sleep(0.001)
    assert watch.reads >= len(watch.broken) > 0


def test_the_table_counts() -> None:
    one = Outcome("training", "SIGKILL", 1.0, 0.1, 10, True, ())
    two = Outcome("training", "SIGKILL", 3.0, 0.3, 20, False, ("bad",))
    row = table([one, two]).splitlines()[2]
    assert row == "| training | SIGKILL | 2 | 1.0 to 3.0 | 30 | 1 | 0.3 | 1 |"
