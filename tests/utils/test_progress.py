"""Progress only rises, and stages weigh what they were given."""

from __future__ import annotations

import pytest

from utils.progress import Progress


@pytest.fixture
def told() -> list[float]:
    return []


@pytest.fixture
def progress(told: list[float]) -> Progress:
    return Progress(told.append)


def test_stages_nest_by_their_shares(progress: Progress, told: list[float]) -> None:
    with progress.stage(0.1) as part:
        part.update(1, 2)
    with progress.stage(0.8) as part:
        with part.stage(0.5) as half:
            half.update(1, 4)
        with part.stage(0.5) as half:
            half.update(0, 0)  # nothing to do counts as done
    with progress.stage(0.1):
        pass
    assert told == pytest.approx([0.05, 0.1, 0.2, 0.5, 0.9, 0.9, 0.9, 1.0])
    assert progress.fraction == pytest.approx(1.0)


def test_it_never_falls_and_never_leaves_its_range(progress: Progress, told: list[float]) -> None:
    for done in (3, 1, 9, float("nan"), 2):
        progress.update(done, 4)
    assert told == [0.75, 0.75, 1.0, 1.0, 1.0]


def test_it_follows_whoever_asks_for_items(progress: Progress, told: list[float]) -> None:
    items = progress.follow("abcd", 4)
    assert (next(items), told) == ("a", [])
    assert (next(items), told) == ("b", [0.25])
    assert list(items) == ["c", "d"]
    assert told == [0.25, 0.5, 0.75, 1.0]


def test_items_that_are_left_out_leave_no_gap(progress: Progress, told: list[float]) -> None:
    with progress.stage(1) as part:
        assert list(part.follow("ab", 4)) == ["a", "b"]
    assert told == [0.25, 0.5, 1.0]


def test_a_failed_stage_stays_where_it_was(progress: Progress) -> None:
    def work(part: Progress) -> None:
        part.update(1, 4)
        raise ValueError("stop")

    with pytest.raises(ValueError, match="stop"), progress.stage(1.0) as part:
        work(part)
    assert progress.fraction == 0.25
