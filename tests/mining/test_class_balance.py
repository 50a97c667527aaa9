"""CALD's second stage: the official order of spec/mining.md 2.6, and the window."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from torch import Tensor

from mining.class_balance import divergence_shares, greedy_shares, rebalance
from mining.mining_cald import cald_scores
from mining.scores import Scored, ScoringContext
from settings.detect import MiningSettings
from tests.mining.colour_example import (
    BLUE,
    FAINT_RED,
    GREEN,
    RED,
    ColourPredictor,
    draw,
    mine,
    scores_of,
    see_colours,
)
from utils.errors import Code, TaskError

# Section 2.6: labelled images with classes {1, 1, 2} and {1}: (2, 1, 0) and (1, 0, 0) on average.
LABELLED = (1.5, 0.5, 0.0)
CANDIDATES = np.array([[0.9, 0.1, 0], [0.1, 0.1, 0.9], [0, 0, 0], [0.1, 0.8, 0.1]])


def stream(scores: list[float | None]) -> list[Scored]:
    return [
        Scored(n, f"{n}.jpg", score, class_vector=vector)
        for n, (score, vector) in enumerate(zip(scores, CANDIDATES, strict=True))
    ]


def test_official_order() -> None:
    """Defect 8; the official budget of two takes candidates 2 (no class) and 1."""
    found = list(rebalance(stream([0.9, 0.8, 0.7, 0.6]), 4, divergence_shares(LABELLED)))
    ranked = sorted(found, key=lambda one: -(one.score or 0))
    assert [one.position for one in ranked] == [2, 1, 3, 0]
    # 1 + .10568 / ln 2 = 1.152465, 1 + .07565 / ln 2 = 1.109140, 1 + .00615 / ln 2 = 1.008873
    assert [one.score for one in ranked] == pytest.approx(
        [2, 1.152465, 1.109140, 1.008873], abs=2e-5
    )


def test_only_the_window_is_ranked_anew() -> None:
    """1 is behind 3 by stage 1, before it by class."""
    found = rebalance(stream([0.6, 0.8, 0.7, 0.9]), 2, divergence_shares(LABELLED))
    scores = {one.position: one.score for one in found}
    assert scores == pytest.approx({0: 0.6, 1: 1.152465, 2: 0.7, 3: 1.109140}, abs=2e-5)


def test_greedy_order_by_hand() -> None:
    """Counts 3, 0, 0: weights .5, 1, 1.

    0 is worth .45 + .1 = .55, 1 .05 + .1 + .9 = 1.05, 3 .05 + .8 + .1 = .95, 2 nothing. 1 goes
    first: counts 3.1, .1, .9 and weights .493865, .953463, .725476. Then 3 has .049386 + .762770 +
    .072548 = .884704, 0 .539825; after 3, counts 3.2, .9, 1: .487950 * .9 + .725476 * .1 = .511703.
    """
    shares = greedy_shares(np.array([3.0, 0, 0]))
    found = {one.position: one.score for one in rebalance(stream([0.9, 0.8, 0.7, 0.6]), 4, shares)}
    expected = {1: 1.999999, 3: 1 + 0.884704 / 1.05, 0: 1 + 0.511703 / 1.05, 2: 1}
    assert found == pytest.approx(expected, abs=2e-6)


SETTINGS = MiningSettings(mining_algorithm="cald", batch_size=4, workers=1, balance_window=3)
BOX, LOW = (20, 10, 60, 40), (10, 44, 40, 60)


@pytest.fixture
def paths(tmp_path: Path) -> list[str]:
    return [
        draw(tmp_path / "a_red.png", (64, 96), (BOX, RED)),
        draw(tmp_path / "b_blue.png", (64, 96), (BOX, BLUE)),
        draw(tmp_path / "c_empty.png", (64, 96)),
        draw(tmp_path / "d_both.png", (64, 96), (BOX, RED), (LOW, GREEN)),
        draw(tmp_path / "e_faint.png", (64, 96), (BOX, FAINT_RED)),
    ]


def knowing(*labelled: float) -> ColourPredictor:
    return ColourPredictor(labelled_objects=labelled)


def test_rare_class_comes_first(paths: list[str]) -> None:
    """Equally consistent red and blue; the labelled images show red, so blue is worth more."""
    settings = replace(SETTINGS, balance_window=10)
    red, blue, empty, both, _ = scores_of(knowing(3, 0, 0), paths, settings)
    assert blue > both > red > 1
    assert empty == 0
    red, blue, *_ = scores_of(knowing(0, 0, 3), paths, settings)
    assert red > blue > 1


def test_setting_counts_for_more_than_the_weights(paths: list[str]) -> None:
    given = replace(SETTINGS, labelled_objects=(0.0, 0.0, 3.0))
    assert mine(knowing(3, 0, 0), paths, given) == mine(knowing(0, 0, 3), paths, SETTINGS)


def test_unknown_counts_leave_stage_1(paths: list[str], caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        rows = mine(ColourPredictor(), paths, SETTINGS)
    assert "stage 1 only" in caplog.text
    assert all(score <= 1 for _, score in rows)
    assert rows == mine(knowing(3, 0, 0), paths, replace(SETTINGS, balance_window=0))


@pytest.mark.parametrize(
    ("window", "budget", "ranked"),
    [(0, 0, 0), (0, 1, 2), (0, 2, 3), (-1, 2, 0), (1, 3, 1)],
    ids=["default", "1.2 is two", "2.4 is three", "off", "a window of its own"],
)
def test_the_window_follows_the_budget(
    paths: list[str], window: int, budget: int, ranked: int
) -> None:
    settings = replace(
        MiningSettings(mining_algorithm="cald", batch_size=4, workers=1),
        balance_window=window,
        budget=budget,
    )
    scores = scores_of(knowing(3, 0, 0), paths, settings)
    assert sum(score > 1 for score in scores) == ranked


def test_greedy_choice_takes_classes_in_turns(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Three red photographs and a blue one: blue is second, whatever is known of the labels."""
    images = [
        draw(tmp_path / f"{n}.png", (64, 96), (BOX, BLUE if n == 2 else RED)) for n in range(4)
    ]
    settings = replace(SETTINGS, balance_window=4, balance_choice="greedy")
    with caplog.at_level(logging.INFO):
        scores = scores_of(ColourPredictor(), images, settings)
    assert "the counts of labelled objects start at 0" in caplog.text
    # 200/255 = .784314 each: 1 / sqrt(1.784314) = .748627 of it for the second of a colour.
    assert sorted(scores)[2:] == pytest.approx([1.999999] * 2, abs=1e-9)
    assert sorted(scores)[1] == pytest.approx(1.748627, abs=1e-5)
    assert scores[2] > 1.9
    known = ColourPredictor(labelled_objects=(0.0, 0.0, 1.5), labelled_images=2)
    scores = scores_of(known, images, settings)
    # Three blue are labelled: half as much as the first red.
    assert scores[2] == pytest.approx(1.5, abs=1e-6)


def test_wrong_number_of_classes_is_refused(paths: list[str]) -> None:
    with pytest.raises(TaskError, match=r"labelled_objects has 2 numbers.* 3 classes") as caught:
        mine(ColourPredictor(), paths, replace(SETTINGS, labelled_objects=(1.0, 2.0)))
    assert caught.value.code == Code.CONFIG


@pytest.mark.parametrize("rule", ["first", "mixed"])
def test_empty_images_and_balance(paths: list[str], rule: str) -> None:
    scores = scores_of(knowing(3, 0, 0), paths, replace(SETTINGS, empty_images=rule))
    empty = scores.pop(2)
    assert empty == 2 > max(scores) if rule == "first" else min(scores) <= empty <= max(scores)


def test_class_vector_is_averaged_over_image_and_views(paths: list[str]) -> None:
    """Green is lost in the flipped view, where it lies right: half of 200 / 255 remains."""

    def lose_green(image: Tensor) -> tuple[Tensor, Tensor]:
        rows, classes = see_colours(image)
        kept = (rows[:, 5] != 1) | (rows[:, 0] < 48)
        return rows[kept], classes[kept]

    predictor = ColourPredictor(lose_green)
    predictions = predictor.stream_tiles(paths[3:4], keep_inputs=True)
    settings = replace(SETTINGS, views=("flip",))
    (scored,) = cald_scores(predictions, ScoringContext(predictor, settings, 1))
    assert scored.class_vector is not None
    # float32 of 200 / 255 = .784314
    assert scored.class_vector.tolist() == pytest.approx([0.784314, 0.392157, 0], abs=1e-5)
