"""A training task in two processes on the CPU through `start.py`, whole and with a failure."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

import start
from tests.conftest import TINY_TRAINING
from tools.check_out import check_out
from tools.make_task import write_task
from tools.sources import SourceDataset
from utils.errors import Code

SETTINGS = {**TINY_TRAINING, "epochs": "1", "onnx": "false", "plots": "no", "workers": "0"}


def run(env_file: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(start, "processes_for", lambda task: 2)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    return start.main(["--env", str(env_file)])


@pytest.mark.slow
def test_two_processes_leave_one_valid_result(
    drawn: SourceDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    env_file = write_task(drawn, tmp_path / "task", settings=SETTINGS)
    assert run(env_file, monkeypatch) == 0
    assert [f.sentence for f in check_out(tmp_path / "task", failed=False)] == []
    result = yaml.safe_load((tmp_path / "task/out/models/result.yaml").read_text("utf-8"))
    assert set(result["model_stages"]) == {"best", "last"}


@pytest.mark.slow
def test_the_first_error_stands_in_the_monitor(
    drawn: SourceDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {**SETTINGS, "batch_size": "5"}
    env_file = write_task(drawn, tmp_path / "task", settings=settings)
    assert run(env_file, monkeypatch) == 1
    record = (tmp_path / "task/out/monitor.txt").read_text("utf-8")
    columns = record.splitlines()[0].split("\t")
    assert columns[3:5] == ["4", str(int(Code.CONFIG))]
    assert "multiple of 2" in columns[5]
    assert float(columns[2]) > 0  # data had been read
