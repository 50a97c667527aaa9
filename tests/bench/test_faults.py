"""Each fault once, on the smallest task: what is left is valid, and started again it finishes."""

from __future__ import annotations

import importlib
import json
import random
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict
from operator import attrgetter
from pathlib import Path

import pytest

from bench import faults
from bench.fault_cases import FAULTS, Fault, carry_out
from bench.fault_disk import ENTER, may_mount
from bench.fault_signals import TOO_LATE, disturb
from bench.fault_tasks import Outcome, make
from tests.conftest import ROOT
from tools.draw_dataset import draw_dataset
from tools.sources import SourceDataset

DISKS = ("last.state", "result.yaml", "results.csv", "TensorBoard", "best.onnx", "infer-result")
"""Kinds of output whose full disk is tried here; the bench tries all."""
FILES = {fault.at for fault in FAULTS if fault.at.startswith("file:")}


def name(fault: Fault) -> str:
    return f"{fault.kind}, {fault.name}"


def test_every_fault_has_a_name_of_its_own() -> None:
    assert len({name(fault) for fault in FAULTS}) == len(FAULTS)


@pytest.mark.parametrize("place", sorted({fault.at for fault in FAULTS} - FILES))
def test_every_function_in_which_a_fault_happens_is_there(place: str) -> None:
    module, path = place.split(":")
    assert callable(attrgetter(path)(importlib.import_module(module)))


@pytest.mark.slow
@pytest.mark.parametrize("fault", [one for one in FAULTS if not one.needs_disk], ids=name)
def test_faults(drawn: SourceDataset, weights: Path, tmp_path: Path, fault: Fault) -> None:
    outcome = carry_out(drawn, tmp_path / "task", fault, weights)
    assert outcome.wrong == ()


@pytest.mark.slow
@pytest.mark.parametrize(
    "fault", [one for one in FAULTS if one.name.split(": ")[-1].startswith(DISKS)], ids=name
)
def test_full_disks(weights: Path, tmp_path: Path, fault: Fault) -> None:
    if not may_mount():
        pytest.skip("no mounts of one's own on this machine")
    draw_dataset(tmp_path / "data", images=24, size_wh=(160, 120), seed=1)
    words = [fault.name, fault.kind, *map(str, (tmp_path / "data", tmp_path / "task", weights))]
    command = [*ENTER, sys.executable, "-m", "bench.fault_cases", *words]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stdout, done.stderr
    assert json.loads(done.stdout.splitlines()[-1])["wrong"] == []


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM], ids=lambda one: one.name)
@pytest.mark.parametrize("kind", ["training", "mining"])
def test_signals(
    drawn: SourceDataset, weights: Path, tmp_path: Path, kind: str, number: signal.Signals
) -> None:
    make(drawn, tmp_path / "task", kind, weights)
    outcome = disturb(tmp_path / "task", kind, number, 5.0 if number == signal.SIGKILL else 0.5)
    assert outcome.wrong == (), asdict(outcome)


@pytest.mark.parametrize(
    ("late", "drawn_until"),
    [
        ((), [8.0, 8.0, 8.0]),
        ((0, 2), [8.0, 6.0, 6.0, 4.5, 4.5]),
        (range(6), [8.0 * 0.75**late for late in range(6)]),
    ],
)
def test_a_task_that_was_whole_too_soon_is_replaced_by_another(
    late: Sequence[int],
    drawn_until: list[float],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made: list[str] = []
    asked: list[float] = []

    class Chance(random.Random):
        def uniform(self, a: float, b: float) -> float:
            asked.append(b)
            return b

    def end(task: Path, kind: str, number: signal.Signals, moment: float) -> Outcome:
        fault = number.name + (TOO_LATE if len(made) - 1 in late else "")
        return Outcome(kind, fault, 4.0, "none", None, 1, False, ())

    monkeypatch.setattr(faults, "disturb", end)
    found = faults.met(
        signal.SIGKILL,
        "mining",
        3,
        out=tmp_path,
        prepare=lambda task: made.append(task.name),
        latest=8.0,
        chance=Chance(),
    )
    assert len(list(found)) == len(drawn_until)
    assert asked == drawn_until
    assert len(set(made)) == len(made)
