"""Numbers of which each goes to one process, however many ask at once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest

from inference.claims import ShardLocks


def test_each_number_goes_to_one(tmp_path: Path) -> None:
    together = Barrier(4)

    def ask(_: int) -> list[int]:
        claims = ShardLocks(tmp_path / "claims")
        together.wait()
        return [number for number in range(200) if claims.take(number)]

    with ThreadPoolExecutor(4) as pool:
        taken = list(pool.map(ask, range(4)))
    assert sorted(number for own in taken for number in own) == list(range(200))


def test_processes_of_one_start_share_and_another_start_begins_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def of(attempt: str, rank: int) -> ShardLocks:
        own = tmp_path / attempt / str(rank) / "error.json"
        monkeypatch.setenv("TORCHELASTIC_ERROR_FILE", str(own))
        return ShardLocks.from_environment()

    assert of("attempt_0", 0).take(3)
    assert not of("attempt_0", 1).take(3)
    assert of("attempt_0", 1).take(4)
    assert of("attempt_1", 1).take(3)
