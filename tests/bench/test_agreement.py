"""Matched detections and rank correlation, by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from bench.agreement import agreement, ranks, spearman


def rows(*boxes: tuple[float, float, float, float, int]) -> np.ndarray:
    """Detections from (x1, y1, x2, y2, class), all of one confidence."""
    return np.array([[*box[:4], 0.5, box[4]] for box in boxes], np.float32).reshape(-1, 6)


def test_each_detection_is_in_one_pair_and_the_best_pairs_come_first() -> None:
    # 100 x 100 boxes: moved by 10 px they share 9000 of 11000, by 0.5 px 9950 of 10050.
    ours = rows((0, 0, 100, 100, 0), (10, 0, 110, 100, 0))
    theirs = rows((10.5, 0, 110.5, 100, 0), (0, 0, 100, 100, 0))
    found = agreement([ours], [theirs])
    assert sorted(found.overlaps.tolist()) == pytest.approx([9950 / 10050, 1.0])
    assert (found.ours, found.theirs) == (2, 2)
    assert found.same_share == 1.0


def test_shares_by_hand() -> None:
    # First image: one equal box, one of another class. Second: IoU 9000 / 11000, and one alone.
    ours = [rows((0, 0, 100, 100, 0), (200, 0, 300, 100, 1)), rows((0, 0, 100, 100, 2))]
    theirs = [
        rows((0, 0, 100, 100, 0), (200, 0, 300, 100, 2)),
        rows((10, 0, 110, 100, 2), (500, 0, 510, 10, 2)),
    ]
    found = agreement(ours, theirs)
    assert sorted(found.overlaps.tolist()) == pytest.approx([9 / 11, 1.0])
    assert found.matched_share == pytest.approx(2 * 2 / 7)
    assert found.same_share == pytest.approx(2 * 1 / 7)
    assert found.same_of_matched == pytest.approx(1 / 2)


def test_boxes_that_hardly_overlap_are_no_pair() -> None:
    # Half of each in common: 5000 / 15000.
    found = agreement([rows((0, 0, 100, 100, 0))], [rows((50, 0, 150, 100, 0))])
    assert len(found.overlaps) == 0
    assert (found.matched_share, found.same_share) == (0.0, 0.0)


def test_nothing_on_both_sides_agrees() -> None:
    found = agreement([rows(), rows()], [rows(), rows()])
    assert (found.matched_share, found.same_share, found.same_of_matched) == (1.0, 1.0, 1.0)


def test_images_are_not_mixed() -> None:
    one = rows((0, 0, 100, 100, 0))
    assert agreement([one, rows()], [rows(), one]).matched_share == 0.0


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        pytest.param([1, 2, 3, 4], [10, 20, 30, 4000], 1.0, id="alike"),
        pytest.param([1, 2, 3, 4], [4, 3, 2, 1], -1.0, id="reversed"),
        # Ranks 1 2 3 4 and 2 1 3 4: 1 - 6 * (1 + 1) / (4 * 15)
        pytest.param([1, 2, 3, 4], [2, 1, 3, 4], 0.8, id="two exchanged"),
        # Ranks 1.5 1.5 3 and 1 2 3: 1.5 / sqrt(1.5 * 2)
        pytest.param([0, 0, 1], [0, 1, 2], math.sqrt(3) / 2, id="a tie"),
    ],
)
def test_spearman(one: list[float], other: list[float], expected: float) -> None:
    assert spearman(one, other) == pytest.approx(expected)


def test_spearman_of_a_single_value_says_nothing() -> None:
    assert math.isnan(spearman([1, 1, 1], [1, 2, 3]))


def test_spearman_as_another_program_computes_it() -> None:
    stats = pytest.importorskip("scipy.stats")
    source = np.random.default_rng(0)
    one = source.integers(0, 20, 200).astype(float)
    other = one + source.integers(0, 10, 200)
    found = spearman(one.tolist(), other.tolist())
    assert found == pytest.approx(stats.spearmanr(one, other).statistic)
    assert ranks(one.tolist()).tolist() == stats.rankdata(one).tolist()
