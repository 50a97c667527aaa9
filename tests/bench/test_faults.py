"""Each fault once, on the smallest task: what is left is valid, and started again it finishes."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest

from bench.fault_cases import FAULTS, Fault, carry_out
from bench.fault_disk import ENTER, may_mount
from bench.fault_signals import disturb
from bench.fault_tasks import make
from tests.conftest import ROOT
from tools.draw_dataset import draw_dataset
from tools.sources import SourceDataset

DISKS = ("last.state", "result.yaml", "results.csv", "TensorBoard", "best.onnx", "infer-result")
"""Kinds of output whose full disk is tried here; the bench tries all."""


def name(fault: Fault) -> str:
    return f"{fault.kind}, {fault.name}"


def test_every_fault_has_a_name_of_its_own() -> None:
    assert len({name(fault) for fault in FAULTS}) == len(FAULTS)


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
