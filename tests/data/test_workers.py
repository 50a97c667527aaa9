"""Workers are limited by the machine and by what its shared memory can hold."""

from __future__ import annotations

import logging
import shutil
from types import SimpleNamespace

import pytest

from data import workers

MIB = 2**20


@pytest.mark.parametrize(
    ("requested", "cpus", "on_gpu", "free_mib", "processes", "expected"),
    [
        pytest.param(-1, 2, False, 1000, 1, 0, id="no gpu: the network needs the cpus"),
        pytest.param(-1, 16, False, 1000, 1, 0, id="no gpu, many cpus"),
        pytest.param(-1, 16, True, 1000, 1, 16, id="gpu, many cpus"),
        pytest.param(-1, 4, True, 1000, 1, 4, id="gpu: one per cpu"),
        pytest.param(-1, 224, True, 9000, 1, 64, id="gpu: at most 64"),
        pytest.param(3, 16, False, 1000, 1, 3, id="as asked for"),
        pytest.param(0, 16, True, 1000, 1, 0, id="none asked for"),
        pytest.param(-1, 16, True, 64, 1, 2, id="shared memory for two"),
        pytest.param(-1, 16, True, 10, 1, 0, id="shared memory for none"),
        pytest.param(-1, 16, True, 1000, 4, 4, id="processes divide the cpus"),
        pytest.param(-1, 16, True, 96, 4, 0, id="processes divide the shared memory"),
    ],
)
def test_worker_count(
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    requested: int,
    cpus: int,
    on_gpu: bool,
    free_mib: int,
    processes: int,
    expected: int,
) -> None:
    """Batches of 10 MiB, two of them ahead per worker, 70% of the shared memory."""
    monkeypatch.setattr(workers, "available_cpus", lambda: cpus)
    monkeypatch.setattr(workers.sys, "platform", "linux")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=free_mib * MIB))
    with caplog.at_level(logging.WARNING):
        got = workers.worker_count(
            requested, batch_bytes=10 * MIB, on_gpu=on_gpu, local_world_size=processes
        )
    assert got == expected
    assert ("shm-size" in caplog.text) == (free_mib < 100)


def test_no_shared_memory_means_no_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "SHARED_MEMORY", "/missing")
    assert workers.worker_count(4, batch_bytes=MIB, on_gpu=False) == 0


@pytest.mark.parametrize(
    ("cpus", "local_world_size", "expected"),
    [(2, 1, 2), (16, 1, 16), (224, 1, 64), (16, 4, 4), (2, 8, 1)],
)
def test_processes_divide_the_threads_that_decode(
    monkeypatch: pytest.MonkeyPatch, cpus: int, local_world_size: int, expected: int
) -> None:
    monkeypatch.setattr(workers, "available_cpus", lambda: cpus)
    assert workers.thread_count(local_world_size) == expected
