"""Two launchers that meet on one machine, as on two: one training, the same as under one."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from tests.test_killed_process import FLAGS, SETTING_WORDS, TORCHRUN, begin


def free_port() -> int:
    """A port of this machine that nobody listens on."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return int(listening.getsockname()[1])


@pytest.mark.slow
def test_two_machines_train_what_one_does(data_yaml: Path, tmp_path: Path) -> None:
    """One process on each of two machines, or two on one: figures equal to the last digit."""
    train = ("train.py", "--data", data_yaml, *FLAGS, "--epochs", 2, *SETTING_WORDS, "--output")
    two, one = tmp_path / "two machines", tmp_path / "one machine"
    meeting = ("--nnodes", 2, "--rdzv-backend", "c10d", "--rdzv-id", "cells",
               "--rdzv-endpoint", f"127.0.0.1:{free_port()}")  # fmt: skip
    logs = [tmp_path / f"{number}.txt" for number in range(2)]
    running = [begin(log, *TORCHRUN, 1, *meeting, *train, two) for log in logs]
    try:
        ends = [launcher.wait(300) for launcher in running]
    finally:
        for launcher in running:
            launcher.kill()
    assert ends == [0, 0], "\n".join(log.read_text() for log in logs)
    assert sorted(str(path.name) for path in two.rglob("*.pt")) == ["best.pt", "last.pt"]
    assert sum("best weights" in log.read_text() for log in logs) == 1

    assert begin(logs[0], *TORCHRUN, 2, "--standalone", *train, one).wait(300) == 0
    tables = [list(folder.rglob("results.csv")) for folder in (two, one)]
    assert [len(found) for found in tables] == [1, 1]
    assert tables[0][0].read_text() == tables[1][0].read_text()
