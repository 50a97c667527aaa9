"""Each fault once, on the smallest task: what is left is valid, and started again it finishes."""

from __future__ import annotations

import importlib
import signal
import subprocess
import sys
import time
from operator import attrgetter
from pathlib import Path
from typing import Any

import pytest

from bench import faults
from bench.fault_cases import FAULTS, Fault, run_with_fault, run_with_signal
from bench.fault_tasks import MonitorWatch, Outcome, can_enter, make_task
from tests.conftest import ROOT
from tools.sources import SourceDataset

TRIED = (
    "training, a worker process dies",
    "training, no memory for batch 5",
    "training, NaN in step 5",
    "training, images disappear, none kept",
    "mining, images disappear",
    "training, the disk is full: result.yaml",
    "mining, the disk is full: infer-result.json",
    "training, a full disk of TensorBoard's own",
)
"""What is tried here; `python -m bench.faults` tries all."""


def name(fault: Fault) -> str:
    return f"{fault.kind}, {fault.name}"


BY_NAME = {name(fault): fault for fault in FAULTS}


def test_every_fault_has_a_name_of_its_own_and_happens_in_a_function_that_exists() -> None:
    assert len(BY_NAME) == len(FAULTS)
    for place in {fault.at for fault in FAULTS if not fault.at.startswith("file:")}:
        module, path = place.split(":")
        assert callable(attrgetter(path)(importlib.import_module(module))), place


@pytest.mark.slow
@pytest.mark.parametrize("fault", [BY_NAME[one] for one in TRIED], ids=name)
def test_faults(drawn: SourceDataset, weights: Path, tmp_path: Path, fault: Fault) -> None:
    if not fault.needs_disk:
        assert run_with_fault(drawn, tmp_path / "task", fault, weights).wrong == ()
        return
    if not can_enter():
        pytest.skip("no mounts of one's own on this machine")
    words = ["--only", fault.name, "--kind", fault.kind, "--weights", str(weights)]
    command = [sys.executable, "-m", "bench.faults", *words, "--out", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert f"| {fault.kind} | {fault.name} | 1 |" in done.stdout, done.stderr
    assert done.returncode == 0, done.stdout


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "number", "moment"),
    [("training", signal.SIGKILL, 5.0), ("mining", signal.SIGTERM, 0.5)],
)
def test_signals(
    drawn: SourceDataset, weights: Path, tmp_path: Path, kind: str, number: Any, moment: float
) -> None:
    make_task(drawn, tmp_path / "task", kind, weights)
    assert run_with_signal(tmp_path / "task", kind, number, moment).wrong == ()


def test_the_table_counts_by_task_and_fault() -> None:
    one = Outcome("training", "SIGKILL", 1.0, "SIGKILL", 0.1, 1000, True, ())
    two = Outcome("training", "SIGKILL", 3.0, "SIGKILL", 0.3, 20, False, ("bad",))
    full = Outcome("mining", "the disk is full", 9.0, "160004", None, 7, False, ())
    assert faults.table([one, full, two]).splitlines()[2:] == [
        "| training | SIGKILL | 2 | none | 1,020 | 1 | 0.3 | 1 |",
        "| mining | the disk is full | 1 | 160004 | 7 | 0 |  | 0 |",
    ]


def test_the_table_of_the_docs_reports_no_failure() -> None:
    """Every row of the table in the docs ends with a count of nothing wrong."""
    page = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")
    rows = page.partition(f"| {faults.HEAD} |")[2].partition("\n\n")[0].splitlines()[2:]
    assert len(rows) > 20
    assert all(row.endswith("| 0 |") for row in rows)


def line(time_: float, progress: float) -> bytes:
    return f"t\t{time_:.6f}\t{progress}\t2\t0\n".encode()


@pytest.mark.parametrize(
    ("records", "broken"),
    [
        pytest.param([line(5, 0.1), line(6, 0.1), line(7, 0.4)], 0, id="rising"),
        pytest.param([b"t\t17.5\t1.0\t4\t300001\tsentence\nmore\n"], 0, id="a failure"),
        pytest.param([b"half"], 1, id="a part"),
        pytest.param([line(5, 0.1).strip()], 1, id="no end"),
        pytest.param([line(5, 2.5)], 1, id="progress above 1"),
        pytest.param([line(5, 0.1).replace(b"\t2\t", b"\tx\t")], 1, id="no state"),
        pytest.param([line(5, 0.4), line(6, 0.1)], 1, id="progress falls"),
        pytest.param([line(5, 0.4), line(4, 0.5)], 1, id="time falls"),
        pytest.param([line(5, 0.4), None, line(6, 0.1)], 0, id="restarted"),
    ],
)
def test_the_watch_keeps_broken_records(
    tmp_path: Path, records: list[bytes | None], broken: int
) -> None:
    path = tmp_path / "monitor.txt"
    path.write_bytes(b"t\t1\t0\t1\n")  # the platform's own, with four columns
    with MonitorWatch(path) as watch:
        for count, record in enumerate(records, start=1):
            if record is None:
                watch.records += 1
                watch.restarted()
                continue
            complete = tmp_path / "next"
            complete.write_bytes(record)
            complete.replace(path)
            while watch.records < count:
                time.sleep(0.001)
    assert len(watch.broken) == broken
    assert watch.reads >= sum(record is not None for record in records)
