"""One process of a real training is killed: all end, the monitor says why, and it goes on later."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.conftest import ROOT, TINY_TRAINING
from tests.killing_example import kill_rank, process_of_rank, read_without_pause, wait_for
from tools.check_out import check_out
from tools.make_task import write_task
from tools.sources import SourceDataset
from utils.errors import Code

SETTINGS = {**TINY_TRAINING, "epochs": "6", "onnx": "false", "plots": "no", "workers": "0"}
TORCHRUN = ("-m", "torch.distributed.run", "--local-addr", "127.0.0.1", "--nproc-per-node")
FLAGS = ("--cfg", "yolov5n", "--img", "96", "--batch-size", "4", "--device", "cpu")
SETTING_WORDS = ("onnx=false", "plots=no", "workers=0", "nominal_batch_size=4")


def begin(log: Path, *words: object) -> subprocess.Popen[bytes]:
    """A Python program with one thread for each process."""
    with log.open("ab") as file:
        return subprocess.Popen(
            [sys.executable, *map(str, words)],
            cwd=ROOT,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            stdout=file,
            stderr=subprocess.STDOUT,
        )


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_one_is_killed_all_end_and_the_task_can_be_started_again(
    drawn: SourceDataset, tmp_path: Path, rank: int
) -> None:
    task, log = tmp_path / "task", tmp_path / "log.txt"
    env_file = write_task(drawn, task, settings=SETTINGS)
    command = ("-m", "tests.killing_example", env_file)
    running = begin(log, *command)
    try:
        with read_without_pause(task / "out/monitor.txt") as records:
            state = task / "out/models/last/last.state"
            assert wait_for(lambda: state.exists() or running.poll() is not None, 240)
            assert running.poll() is None, log.read_text()
            other = process_of_rank(running.pid, 1 - rank)
            kill_rank(running.pid, rank)
            killed = time.monotonic()
            assert running.wait(60) == 1
            assert time.monotonic() - killed < 30
        assert not Path(f"/proc/{other}").exists()
    finally:
        running.kill()
    columns = [record.split("\t") for record in records]
    progress = [float(row[2]) for row in columns]
    assert progress == sorted(progress)
    failures = [row for row in columns if row[3] == "4"]
    assert len(failures) == 1, failures
    assert failures == columns[-1:]
    assert failures[0][4] == str(int(Code.CONTAINER))
    assert f"process {rank} of the training was killed (SIGKILL)" in failures[0][5]

    assert begin(log, *command).wait(300) == 0, log.read_text()
    assert [f.sentence for f in check_out(task, failed=False)] == []
    assert "going on after epoch" in log.read_text()


def epochs_in(folder: Path) -> list[int]:
    """The first column of every results.csv below a folder."""
    return [
        int(next(iter(row.values())))
        for path in sorted(folder.rglob("results.csv"))
        for row in csv.DictReader(path.open())
    ]


@pytest.mark.slow
def test_the_same_torchrun_goes_on_after_the_last_epoch(data_yaml: Path, tmp_path: Path) -> None:
    folder, log = tmp_path / "run", tmp_path / "log.txt"
    command = (
        *TORCHRUN, 2, "--standalone", "train.py", "--data", data_yaml, *FLAGS, "--epochs", 6,
        "--output", folder, *SETTING_WORDS,
    )  # fmt: skip
    running = begin(log, *command)
    try:

        def saved() -> bool:
            return bool(list(folder.rglob("last.state"))) or running.poll() is not None

        assert wait_for(saved, 240)
        kill_rank(running.pid, 1)
        assert running.wait(120) != 0
        running = begin(log, *command)
        assert running.wait(300) == 0, log.read_text()
    finally:
        running.kill()
    assert "going on after epoch" in log.read_text()
    epochs = epochs_in(folder)
    assert epochs == list(range(epochs[0], epochs[0] + 6))
