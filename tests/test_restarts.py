"""`torchrun --max-restarts`: a rank is killed, and the training goes on in the same command."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.killing_example import kill_rank, wait_for
from tests.test_killed_process import FLAGS, SETTING_WORDS, TORCHRUN, begin, epochs_in
from tests.test_two_machines import free_port


def restarting(restarts: int, *words: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, *TORCHRUN, *map(str, words[:1]), "--max-restarts", str(restarts),
         *map(str, words[1:])],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )  # fmt: skip


def left_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


EXAMPLE = ("-m", "tests.restarting_example")
ALL_LEFT = [
    *("done 0", "done 1"),
    *(f"start {start} {rank}" for start in range(3) for rank in range(2)),
]


@pytest.mark.slow
def test_those_started_again_find_each_other_at_once(tmp_path: Path) -> None:
    """Each in turn is killed, and late afterwards: no restart more than there are deaths."""
    running = restarting(2, 2, "--standalone", *EXAMPLE, tmp_path, 2)
    text = running.communicate(timeout=300)[0]
    assert running.returncode == 0, text
    assert left_in(tmp_path) == ALL_LEFT


@pytest.mark.slow
def test_those_of_two_machines_find_each_other_again(tmp_path: Path) -> None:
    """Their launchers count restarts each for itself."""
    meeting = ("--nnodes", 2, "--rdzv-backend", "c10d", "--rdzv-id", "again",
               "--rdzv-endpoint", f"127.0.0.1:{free_port()}")  # fmt: skip
    running = [restarting(2, 1, *meeting, *EXAMPLE, tmp_path, 2) for _ in range(2)]
    texts = [launcher.communicate(timeout=300)[0] for launcher in running]
    assert [launcher.returncode for launcher in running] == [0, 0], "\n".join(texts)
    assert left_in(tmp_path) == ALL_LEFT


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_a_training_goes_on_by_itself(data_yaml: Path, tmp_path: Path, rank: int) -> None:
    folder, log = tmp_path / "run", tmp_path / "log.txt"
    running = begin(
        log, *TORCHRUN, 2, "--max-restarts", 1, "--standalone", "train.py", "--data", data_yaml,
        *FLAGS, "--epochs", 6, "--output", folder, *SETTING_WORDS,
    )  # fmt: skip
    try:

        def saved() -> bool:
            return bool(list(folder.rglob("last.state"))) or running.poll() is not None

        assert wait_for(saved, 240)
        kill_rank(running.pid, rank)
        assert running.wait(300) == 0, log.read_text()
    finally:
        running.kill()
    assert log.read_text().count("going on after epoch") == 1
    epochs = epochs_in(folder)
    assert epochs == list(range(epochs[0], epochs[0] + 6))
