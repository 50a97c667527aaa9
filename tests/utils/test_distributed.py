"""Two processes on the CPU against one: messages, batch norm, gradients."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.conftest import ROOT
from utils.distributed import SINGLE_PROCESS, VARIABLES, DistContext
from utils.errors import Code, TaskError

SET = {
    "RANK": "3",
    "WORLD_SIZE": "4",
    "LOCAL_RANK": "1",
    "LOCAL_WORLD_SIZE": "2",
    "MASTER_ADDR": "here",
}
TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--local-addr", "127.0.0.1")


def launch(count: int, *words: object) -> None:
    """`torchrun` with that many processes, which must succeed."""
    ended = subprocess.run(
        [sys.executable, *TORCHRUN, "--nproc-per-node", str(count), *map(str, words)],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr


def test_who_this_is_stands_in_the_environment() -> None:
    assert DistContext.of(SET) == DistContext(3, 4, 1, 2)
    assert not DistContext.of(SET).first


@pytest.mark.parametrize("missing", VARIABLES)
def test_without_a_launcher_a_process_is_alone(missing: str) -> None:
    """A container may set one of these names for another purpose."""
    there = {name: value for name, value in SET.items() if name != missing}
    assert DistContext.of(there) == SINGLE_PROCESS
    assert SINGLE_PROCESS.first
    assert not SINGLE_PROCESS.several


def test_words_for_numbers_are_refused() -> None:
    with pytest.raises(TaskError, match="must be numbers") as caught:
        DistContext.of({**SET, "RANK": "first"})
    assert caught.value.code == Code.CONFIG


def test_one_alone_speaks_with_nobody() -> None:
    values = torch.ones(2)
    network = torch.nn.Linear(1, 1)
    with SINGLE_PROCESS.joined(torch.device("cpu")):
        assert SINGLE_PROCESS.total(values) is values
        assert SINGLE_PROCESS.mean(values) is values
        assert SINGLE_PROCESS.first_says(3) == 3
        assert SINGLE_PROCESS.first_writes("so") == "so"
        assert SINGLE_PROCESS.gather(b"so") == [b"so"]
        assert SINGLE_PROCESS.wrapped(network) is network
        SINGLE_PROCESS.agree(1, "never")
        SINGLE_PROCESS.broadcast_module(network)


@pytest.mark.slow
def test_what_two_tell_each_other(tmp_path: Path) -> None:
    launch(2, "-m", "tests.two_processes", "speak", tmp_path)
    assert [(tmp_path / f"{rank}.txt").read_text() for rank in (0, 1)] == ["here 0, 1"] * 2


@pytest.mark.slow
def test_gradients_of_two_are_those_of_one_with_the_whole_batch(
    trained: Path, tmp_path: Path
) -> None:
    """Eight images, by one process or as twice four, batch statistics over all.

    In float64 only the order of sums differs: within 1e-6 of each tensor's largest gradient.
    """
    (tmp_path / "data.txt").write_text(str(trained / "in"))
    for count in (1, 2):
        launch(count, "-m", "tests.two_processes", "gradients", tmp_path)
    (one, statistics), (two, their_statistics) = (
        torch.load(tmp_path / f"{count}.pt") for count in (1, 2)
    )
    assert one.keys() == two.keys()
    for name, expected in one.items():
        largest = float(expected.abs().max())
        assert largest > 0, name
        torch.testing.assert_close(two[name], expected, rtol=0, atol=1e-6 * largest, msg=name)
    for name, expected in statistics.items():
        torch.testing.assert_close(their_statistics[name], expected, rtol=1e-6, atol=1e-9)
