"""Files that disappear are noticed, and a few that are missing are no reason to end."""

from __future__ import annotations

from pathlib import Path

import pytest
from data.lost_files import LOOKED_AT

from data.sources import available_sample, check_data_available, sample_paths
from utils.errors import Code, TaskError


@pytest.mark.parametrize("count", [0, 1, 63, 64, 65, 1000])
def test_the_paths_looked_at_are_spread_over_all(count: int) -> None:
    paths = [str(number) for number in range(count)]
    chosen = sample_paths(paths)
    assert len(chosen) <= LOOKED_AT
    assert chosen == paths[:: max(1, -(-count // LOOKED_AT))]


@pytest.mark.parametrize(("gone", "refused"), [(0, False), (5, False), (6, True), (10, True)])
def test_more_than_half_must_be_gone(tmp_path: Path, gone: int, refused: bool) -> None:
    paths = [tmp_path / f"{number}.png" for number in range(10)]
    for path in paths:
        path.write_bytes(b"x")
    watched = available_sample([*map(str, paths), str(tmp_path / "never.png")])
    assert watched == [str(path) for path in paths]
    for path in paths[:gone]:
        path.unlink()
    if not refused:
        check_data_available(watched, what="images")
        return
    with pytest.raises(TaskError, match=f"{gone} are gone") as caught:
        check_data_available(watched, what="images")
    assert caught.value.code == Code.DATASET


def test_nothing_is_lost_of_nothing() -> None:
    assert available_sample([]) == []
    check_data_available(available_sample([]), what="images")
