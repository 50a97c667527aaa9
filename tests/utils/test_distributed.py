"""Collectives, gradients and evaluation of two ranks on the CPU; the rendezvous of ranks."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

from tests import two_processes
from tests.conftest import ROOT
from tests.evaluation.evaluation_example import assert_same
from utils import distributed
from utils.distributed import SINGLE_PROCESS, DistContext, rendezvous, shared_store
from utils.environment import RANK_VARIABLES
from utils.errors import Code, TaskError


def test_words_for_numbers_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*RANK_VARIABLES, "MASTER_ADDR"):
        monkeypatch.setenv(name, "first")
    with pytest.raises(TaskError, match="must be numbers") as caught:
        DistContext.from_environment()
    assert caught.value.code == Code.CONFIG


@pytest.fixture(scope="module")
def results(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What one process and two ranks have computed of the same data."""
    folder = tmp_path_factory.mktemp("ranks")
    (folder / "data.txt").write_text(str(trained / "in"))
    two_processes.run(SINGLE_PROCESS, folder)
    words = "--standalone --local-addr 127.0.0.1 --nproc-per-node 2 -m tests.two_processes"
    ended = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", *words.split(), str(folder)],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return folder


@pytest.mark.slow
def test_two_ranks_communicate(results: Path) -> None:
    assert [(results / f"{rank}.txt").read_text() for rank in (0, 1)] == ["here 0, 1"] * 2


@pytest.mark.slow
def test_gradients_of_two_ranks_are_those_of_the_whole_batch(results: Path) -> None:
    """In float64 only the order of sums differs: within 1e-6 of each tensor's largest gradient."""
    one, two = (torch.load(results / f"gradients {count}.pt") for count in (1, 2))
    assert one.keys() == two.keys()
    for name, expected in one.items():
        largest = float(expected.abs().max())
        assert largest > 0, name
        torch.testing.assert_close(two[name], expected, rtol=0, atol=1e-6 * largest, msg=name)


@pytest.mark.slow
def test_two_ranks_evaluate_what_one_process_does(results: Path) -> None:
    one, two = (
        torch.load(results / f"evaluation {count}.pt", weights_only=False) for count in (1, 2)
    )
    assert one.scores.map50 > 0
    assert len(one.detections) > 6
    assert_same(two, one)


@pytest.mark.slow
def test_a_rank_that_runs_out_of_memory_trains_as_an_undisturbed_one(results: Path) -> None:
    """The other one waits. In float32 only the order of sums differs."""
    undisturbed, disturbed, other = (
        torch.load(results / f"trained {name}.pt") for name in ("1 False", "1 True", "0 True")
    )
    assert undisturbed[1] == disturbed[1] == other[1] == 2
    assert disturbed[0] == pytest.approx(undisturbed[0], rel=1e-5)
    assert other[0] == disturbed[0]
    for name, expected in undisturbed[2].items():
        largest = float(expected.abs().max())
        assert largest > 0, name
        torch.testing.assert_close(
            disturbed[2][name], expected, rtol=0, atol=1e-4 * largest, msg=name
        )
        assert other[2][name].equal(disturbed[2][name]), name


WAIT = timedelta(seconds=30)


def start(store: dist.Store, late: dict[int, float], world_size: int) -> list[dist.Store]:
    """Return what the ranks, as threads, get of the store if some are late by so many seconds."""

    def begin(rank: int) -> dist.Store:
        time.sleep(late.get(rank, 0))
        return rendezvous(store, rank, world_size, WAIT)

    with ThreadPoolExecutor(world_size) as pool:
        return list(pool.map(begin, range(world_size)))


@pytest.mark.parametrize("late", [{}, {0: 0.3}, {2: 0.3}, {1: 0.2, 2: 0.4}], ids=str)
def test_a_later_start_reads_nothing_of_an_earlier_one(late: dict[int, float]) -> None:
    store = dist.HashStore()
    store.set("question/1", "of a killed process")
    for _ in range(3):
        first, second, third = start(store, late, 3)
        assert not first.check(["address"])
        first.set("address", "of this start")
        assert second.get("address") == third.get("address") == b"of this start"


def test_a_rank_that_does_not_come_is_named_by_all_others() -> None:
    store = dist.HashStore()
    store.set("question/2", "of the dead")

    def begin(rank: int) -> str:
        with pytest.raises(TaskError, match="of 3 processes 2 did not come within") as caught:
            rendezvous(store, rank, 3, timedelta(seconds=0.5))
        assert caught.value.code == Code.CONTAINER
        return caught.value.sentence

    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(begin, range(2))
    assert first == second


PORTS = itertools.count(10000 + os.getpid() % 20000)
"""Below those that the system gives."""


@pytest.fixture(params=["a launcher", "none"])
def server(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> dist.TCPStore | None:
    """The store of a launcher that has started this process; None if it has none."""
    store, port = None, next(PORTS)
    if request.param != "none":
        store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
        port = store.port
        monkeypatch.setenv("TORCHELASTIC_USE_AGENT_STORE", "True")
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    monkeypatch.setenv("MASTER_PORT", str(port))
    return store


def test_ranks_share_a_store_of_the_launcher_or_of_rank_0(server: dist.TCPStore | None) -> None:
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(lambda rank: shared_store(rank, 2, WAIT), range(2))
    first.set("said", "yes")
    assert second.get("said") == b"yes"
    assert server is None or not server.check(["said"])


@pytest.mark.parametrize("rank", [0, 1])
def test_a_rank_that_fails_before_leaves_no_other_waiting(
    server: dist.TCPStore | None, monkeypatch: pytest.MonkeyPatch, rank: int
) -> None:
    monkeypatch.setattr(distributed, "MEETING", timedelta(seconds=1))
    words = "of 2 processes 1 did not come within" if server and not rank else "could not meet"
    began = time.monotonic()
    with (
        pytest.raises(TaskError, match=words) as caught,
        DistContext(rank, 2).process_group(torch.device("cpu")),
    ):
        pass
    assert caught.value.code == Code.CONTAINER
    assert time.monotonic() - began < 30
