"""Training tasks that are killed or told to stop: valid outputs, no process left, same results."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest
import torch
import yaml

import start
from tests.conftest import TINY_TRAINING
from tests.killing_example import (
    is_alive,
    kill_rank,
    process_of_rank,
    read_without_pause,
    running,
    wait_for,
)
from tests.task_results import findings, record
from tests.training_example import tensors_of
from tools.make_task import write_task
from tools.sources import SourceDataset
from utils.errors import Code
from utils.shutdown import processes_below

SETTINGS = {**TINY_TRAINING, "img_size": "64", "batch_size": "8", "onnx": "no", "plots": "no"}
PROGRAM = ("-m", "tests.paused_example", "start.py", "--env")
TOLD = "FAILED (160004): the task was told to stop (SIGTERM)"


def wait_until_paused(process: subprocess.Popen[bytes], log: Path, times: int) -> None:
    def paused() -> bool:
        return log.read_text().count("PAUSED") == times or process.poll() is not None

    assert wait_for(paused, 300)
    assert process.poll() is None, log.read_text()


def wrong(task: Path, *, failed: bool) -> list[str]:
    # A file that was being written may lie beside the whole one, hidden.
    return [one for one in findings(task, failed=failed) if not one.startswith("stray")]


def assert_told_to_stop(task: Path, text: str) -> None:
    assert text.count(TOLD) == 1, text
    assert record(task)[3:5] == ["4", str(int(Code.CONTAINER))]
    assert wrong(task, failed=True) == []


@pytest.mark.slow
def test_a_training_interrupted_in_every_way_ends_as_one_that_ran_through(
    drawn: SourceDataset, tmp_path: Path
) -> None:
    settings = {**SETTINGS, "epochs": "4", "workers": "1"}
    whole, task, log = tmp_path / "whole", tmp_path / "task", tmp_path / "log.txt"
    assert start.main(["--env", str(write_task(drawn, whole, settings=settings))]) == 0
    env_file = write_task(drawn, task, settings=settings)

    with (
        read_without_pause(task / "out/monitor.txt") as records,
        running(log, *PROGRAM, env_file, PAUSE="0 sleep") as process,
    ):
        wait_until_paused(process, log, 1)
        process.kill()
        assert process.wait(300) == -signal.SIGKILL
    columns = [line.split("\t") for line in records if line.count("\t") > 3]
    assert {row[3] for row in columns} == {"2"}
    assert [float(row[2]) for row in columns] == sorted(float(row[2]) for row in columns)
    assert [one for one in wrong(task, failed=True) if not one.startswith("monitor")] == []

    with running(log, *PROGRAM, env_file, PAUSE="1 sleep") as process:
        wait_until_paused(process, log, 2)
        process.terminate()
        assert process.wait(300) == 1
    assert_told_to_stop(task, log.read_text())

    log.write_text("PAUSED" * 2)
    with running(log, *PROGRAM, env_file, PAUSE="2 deadlock", GRACE="1") as process:
        wait_until_paused(process, log, 3)
        family = processes_below(process.pid)
        process.terminate()
        assert process.wait(300) == 1
    assert_told_to_stop(task, log.read_text())
    assert family  # worker processes, at least
    assert wait_for(lambda: not any(map(is_alive, family)), 60)

    with running(log, *PROGRAM, env_file) as process:
        assert process.wait(300) == 0, log.read_text()
    assert wrong(task, failed=False) == []
    assert "going on after epoch 3 of 4" in log.read_text()
    models, expected = task / "out/models", whole / "out/models"
    report = "attachments/report/results.csv"
    assert (models / report).read_text() == (expected / report).read_text()
    for stage in ("best", "last"):
        tensors = tensors_of(expected, stage)
        for key, tensor in tensors_of(models, stage).items():
            assert torch.equal(tensor, tensors[key]), key


@pytest.mark.slow
def test_a_training_of_two_ranks_that_is_interrupted(drawn: SourceDataset, tmp_path: Path) -> None:
    """A rank that hears nothing, a rank that is killed, and the same task once more."""
    task, log = tmp_path / "task", tmp_path / "log.txt"
    env_file = write_task(drawn, task, settings={**SETTINGS, "epochs": "3", "workers": "1"})
    with running(log, *PROGRAM, env_file, PAUSE="0 sleep", GRACE="1", RANKS="2") as process:
        wait_until_paused(process, log, 1)
        family = processes_below(process.pid)
        # torch's launcher would wait 30 seconds for it
        os.kill(process_of_rank(process.pid, 1), signal.SIGSTOP)
        process.terminate()
        assert process.wait(300) == 1
    assert_told_to_stop(task, log.read_text())
    assert len(family) > 2
    assert wait_for(lambda: not any(map(is_alive, family)), 60)

    with (
        read_without_pause(task / "out/monitor.txt") as records,
        running(log, *PROGRAM, env_file, PAUSE="1 sleep", RANKS="2") as process,
    ):
        wait_until_paused(process, log, 2)
        family = processes_below(process.pid)
        kill_rank(process.pid, 1)
        assert process.wait(300) == 1
    assert wait_for(lambda: not any(map(is_alive, family)), 60)
    columns = [line.split("\t") for line in records[1:]]  # the first is that of the failure above
    assert [float(row[2]) for row in columns] == sorted(float(row[2]) for row in columns)
    (failure,) = (row for row in columns if row[3] == "4")
    assert failure == columns[-1]
    assert failure[4] == str(int(Code.CONTAINER))
    assert "process 1 of the training was killed (SIGKILL)" in failure[5]

    with running(log, *PROGRAM, env_file, RANKS="2") as process:
        assert process.wait(300) == 0, log.read_text()
    assert wrong(task, failed=False) == []
    assert "going on after epoch 2 of 3" in log.read_text()
    result = yaml.safe_load((task / "out/models/result.yaml").read_text("utf-8"))
    assert set(result["model_stages"]) == {"best", "last"}


SLOW_IMPORT = """
import os, runpy, signal, sys, time
from utils.shutdown import ShutdownHandler
ShutdownHandler.__init__.__kwdefaults__["grace"] = {grace}
class Slow:
    def find_spec(self, name, *rest):
        if name == "tasks":
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(2)
sys.meta_path.insert(0, Slow())
sys.argv = ["start.py", "--env", {env_file!r}]
runpy.run_path("start.py", run_name="__main__")
"""


@pytest.mark.slow
@pytest.mark.parametrize("grace", [600, 0.1], ids=["in time", "too slow"])
def test_a_task_told_to_stop_while_it_imports(
    drawn: SourceDataset, tmp_path: Path, grace: float
) -> None:
    task, log = tmp_path / "task", tmp_path / "log.txt"
    env_file = str(write_task(drawn, task, settings=SETTINGS))
    with running(log, "-c", SLOW_IMPORT.format(grace=grace, env_file=env_file)) as process:
        assert process.wait(300) == 1
    assert_told_to_stop(task, log.read_text())
