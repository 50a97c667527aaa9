"""CALD's second stage: the official order of spec/mining.md 2.6, and the window."""

from __future__ import annotations

import math

import numpy as np
import pytest

from mining.class_balance import class_divergence, rebalance, window_size
from mining.scores import Scored

# Section 2.6: labelled images with classes {1, 1, 2} and {1}: (2, 1, 0) and (1, 0, 0) on average.
LABELLED = (1.5, 0.5, 0.0)
CANDIDATES = np.array([[0.9, 0.1, 0], [0.1, 0.1, 0.9], [0, 0, 0], [0.1, 0.8, 0.1]])


def stream(scores: list[float | None]) -> list[Scored]:
    return [
        Scored(n, f"{n}.jpg", score, class_vector=vector)
        for n, (score, vector) in enumerate(zip(scores, CANDIDATES, strict=True))
    ]


def test_official_divergences() -> None:
    found = class_divergence(LABELLED, CANDIDATES[[0, 1, 3]])
    assert found.tolist() == pytest.approx([0.00615, 0.10568, 0.07565], abs=1e-5)


def test_official_order() -> None:
    """Defect 8; the official budget of two takes candidates 2 (no class) and 1."""
    found = list(rebalance(stream([0.9, 0.8, 0.7, 0.6]), LABELLED, 4))
    ranked = sorted(found, key=lambda one: -(one.score or 0))
    assert [one.position for one in ranked] == [2, 1, 3, 0]
    # 1 + .10568 / ln 2 = 1.152465, 1 + .07565 / ln 2 = 1.109140, 1 + .00615 / ln 2 = 1.008873
    assert [one.score for one in ranked] == pytest.approx(
        [2, 1.152465, 1.109140, 1.008873], abs=2e-5
    )


def test_only_the_window_is_ranked_anew() -> None:
    found = {
        one.position: one.score for one in rebalance(stream([0.6, 0.8, 0.7, 0.9]), LABELLED, 2)
    }
    assert (found[0], found[2]) == (0.6, 0.7)
    assert found[1] == pytest.approx(1.152465, abs=2e-5)  # behind 3 by stage 1, before it by class
    assert found[3] == pytest.approx(1.109140, abs=2e-5)


@pytest.mark.parametrize("window", [0, 2, 9])
def test_every_image_comes_out_once(window: int) -> None:
    images = stream([0.6, None, 0.7, 0.9])
    found = sorted(rebalance(images, LABELLED, window), key=lambda one: one.position)
    assert [one.position for one in found] == [0, 1, 2, 3]
    assert found[1].score is None
    if window == 0:
        assert found == images


def test_of_equal_scores_the_later_name_stays_in_whatever_the_order() -> None:
    images = stream([0.5, 0.5, 0.5, 0.5])
    for order in (images, images[::-1]):
        found = sorted(rebalance(order, LABELLED, 2), key=lambda one: one.position)
        assert [(one.score or 0) > 0.5 for one in found] == [False, False, True, True]


def test_images_leave_the_window_as_soon_as_they_are_out() -> None:
    passed = rebalance(iter(stream([0.6, 0.8, 0.7, 0.9])), LABELLED, 1)
    assert next(passed).position == 0


@pytest.mark.parametrize(("setting", "expected"), [(-1, 12), (0, 0), (7, 7), (500, 500)])
def test_window_size(setting: int, expected: int) -> None:
    assert window_size(setting, 100) == expected
    assert window_size(-1, 1) == 1


def test_divergence_is_at_most_a_share_of_ln_2() -> None:
    far = class_divergence((500.0, 0.0), np.array([[0.0, 500.0]]))
    assert float(far[0]) == pytest.approx(math.log(2))
