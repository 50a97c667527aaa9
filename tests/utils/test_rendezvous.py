"""Processes of one start, as threads around one store: together, and apart from all before them."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
import torch.distributed as dist

from utils.errors import Code, TaskError
from utils.rendezvous import meet, own_store

WAIT = timedelta(seconds=30)


def start(store: dist.Store, late: dict[int, float], world: int) -> list[dist.Store]:
    """What the processes get of the store when some of them are late by so many seconds."""

    def begin(rank: int) -> dist.Store:
        time.sleep(late.get(rank, 0))
        return meet(store, rank=rank, world=world, patience=WAIT)

    with ThreadPoolExecutor(world) as pool:
        return list(pool.map(begin, range(world)))


@pytest.mark.parametrize("late", [{}, {0: 0.3}, {2: 0.3}, {1: 0.2, 2: 0.4}], ids=str)
def test_a_later_start_reads_nothing_of_an_earlier_one(late: dict[int, float]) -> None:
    store = dist.HashStore()
    for before, ours in ((False, start(store, {}, 3)), (True, start(store, late, 3))):
        for rank, own in enumerate(ours):
            assert not any(own.check([f"address of {one}"]) for one in range(rank, 3)), before
            own.set(f"address of {rank}", str(before))
        for own in ours:
            assert [own.get(f"address of {one}") for one in range(3)] == [str(before).encode()] * 3


@pytest.mark.parametrize("late", [{0: 0.3}, {1: 0.3}], ids=str)
def test_questions_of_killed_processes_stay_without_effect(late: dict[int, float]) -> None:
    """One killed before its answer, and one of a higher rank than there is now."""
    store = dist.HashStore()
    store.set("question/1", "of the dead")
    store.set("question/2", "of the dead, too")
    first, second = start(store, late, 2)
    first.set("said", "yes")
    assert second.get("said") == b"yes"


def test_one_that_does_not_come_is_named() -> None:
    store = dist.HashStore()
    store.set("question/2", "of the dead")
    with pytest.raises(
        TaskError, match="of 3 processes 1, 2 did not come within 0:00:00"
    ) as caught:
        meet(store, rank=0, world=3, patience=timedelta())
    assert caught.value.code == Code.CONTAINER


def test_one_alone_waits_for_nobody() -> None:
    meet(dist.HashStore(), rank=0, world=1, patience=timedelta())


@pytest.mark.parametrize("said", [{}, {"TORCHELASTIC_USE_AGENT_STORE": "False"}], ids=str)
def test_without_a_store_of_the_launcher_there_is_none(said: dict[str, str]) -> None:
    assert own_store(said, rank=0, world=2, patience=WAIT) is None


def test_the_store_of_the_launcher_is_shared() -> None:
    server = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    environment = {
        "TORCHELASTIC_USE_AGENT_STORE": "True",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(server.port),
    }
    with ThreadPoolExecutor(2) as pool:
        found = [
            pool.submit(own_store, environment, rank=rank, world=2, patience=WAIT)
            for rank in range(2)
        ]
    first, second = (one.result() for one in found)
    assert first
    assert second
    first.set("said", "yes")
    assert second.get("said") == b"yes"
    assert not server.check(["said"])
