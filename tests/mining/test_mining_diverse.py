"""Diverse mining: the window worked by hand, then the engine with a detector that sees colours."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mining.diversity import SIZE, STEP, UNIT, spread_window
from mining.scores import Scored, tie_draw
from settings.detect import MiningSettings
from tests.mining.colour_example import ColourPredictor, mine, scores_of, untrained

SETTINGS = MiningSettings(
    mining_algorithm="diverse",
    batch_size=4,
    workers=1,
    views=("flip",),
    diverse_score="cald",
    diverse_window=9,
)


def vector(*first: float) -> np.ndarray:
    """A feature of direction `first`, which has length 1."""
    own = np.zeros(SIZE, np.float32)
    own[: len(first)] = np.rint(np.array(first) * UNIT)
    return own


EAST, NORTH, WEST = vector(1, 0), vector(0, 1), vector(-1, 0)


def stream(scores: list[float], features: list[np.ndarray]) -> list[Scored]:
    return [
        Scored(n, f"{n}.jpg", score, feature=feature)
        for n, (score, feature) in enumerate(zip(scores, features, strict=True))
    ]


def spread_out(images: list[Scored], window: int) -> dict[int, float | None]:
    return {one.position: one.score for one in spread_window(images, window, 1.0, SETTINGS)}


def test_near_duplicates_do_not_both_come_near_the_top() -> None:
    """Weights of the best .8: 1, .95, .5, .25. Farthest first after 0: 1 is a double, 0;
    2 is sqrt(2) / 2 = .707107 away, .5 times that .353553; 3 is 1 away, .25. After 2, 3 is
    .707107 away: .25 times that .176777. Then steps of 3, 2, 1 and 0 millionths times two.
    """
    scores = spread_out(stream([0.8, 0.76, 0.4, 0.2], [EAST, EAST, NORTH, WEST]), 4)
    expected = {0: 2 + 3 * STEP, 2: 1.353553 + 2 * STEP, 3: 1.176777 + STEP, 1: 1}
    assert scores == pytest.approx(expected, abs=1e-6)


def test_only_the_window_is_ranked_anew() -> None:
    """Two of four: 0 and 1, however alike; the others keep their scores, below."""
    images = stream([0.8, 0.76, 0.4, 0.2], [EAST, EAST, NORTH, WEST])
    assert spread_out(images, 2) == {0: 2 + STEP, 1: 1, 2: 0.4, 3: 0.2}
    assert spread_out(images, 0) == {0: 0.8, 1: 0.76, 2: 0.4, 3: 0.2}


def test_of_equal_scores_a_draw_decides_whatever_the_order() -> None:
    images = stream([0.5] * 4, [EAST] * 4)
    drawn = sorted(range(4), key=lambda n: -tie_draw(0, f"{n}.jpg"))
    assert drawn != sorted(drawn)
    expected = dict(zip(drawn, (2 + 2 * STEP, 1 + STEP, 1, 0.5), strict=True))
    for order in (images, images[::-1], images[2:] + images[:2]):
        assert spread_out(order, 3) == pytest.approx(expected, abs=1e-12)


def test_value_and_distance_are_told() -> None:
    """As above: 2 is .707107 from 0, and 3 then .707107 from 2."""
    images = stream([0.8, 0.76, 0.4, 0.2], [EAST, EAST, NORTH, WEST])
    found = {one.position: one.breakdown for one in spread_window(images, 4, 1.0, SETTINGS)}
    assert found == {
        0: {"value": 0.8, "distance": 1.0},
        1: {"value": 0.76, "distance": 0.0, "nearest": 0},
        2: {"value": 0.4, "distance": 0.707107, "nearest": 0},
        3: {"value": 0.2, "distance": 0.707107, "nearest": 2},
    }


def test_scores_are_distinct_in_six_digits() -> None:
    """Even a window of copies has one order, whatever a file of six digits keeps."""
    scores = spread_out(stream([0.5] * 200, [EAST] * 200), 200)
    assert len({round(score or 0, 6) for score in scores.values()}) == 200


def ranked(rows: list[tuple[str, float]]) -> str:
    """The letters of the images, best first."""
    return "".join(Path(path).stem for path, _ in sorted(rows, key=lambda row: -row[1]))


def test_scores_of_the_file(copies: list[str]) -> None:
    """a: 1 + 1 + 3 steps; copies 1 and their steps; the lone image between them.

    Stage 1 by a flip, faint 1 - |1 + 77/255 - 1.3| = .998039, sure green .515686, takes the copies
    first.
    """
    scores = scores_of(ColourPredictor(), copies, SETTINGS)
    # The draw of seed 0 is a, c, b.
    assert scores[:3] == pytest.approx([2 + 3 * STEP, 1, 1 + STEP], abs=1e-9)
    assert 1.001 < scores[3] < 1 + 0.515686 / 0.998039
    stage_1 = replace(SETTINGS, mining_algorithm="cald")
    assert ranked(mine(ColourPredictor(), copies, stage_1)) == "abcdef"


@pytest.mark.parametrize(
    ("score", "rule", "empty", "unreadable"),
    [
        pytest.param("cald", "last", 0.0, -1.0, id="cald last"),
        pytest.param("cald", "first", 3.0, -1.0, id="cald first"),
        pytest.param("entropy", "last", -10.0, -11.0, id="entropy last"),
        pytest.param("entropy", "first", 302.0, -1.0, id="entropy first"),
    ],
)
def test_empty_and_unreadable_images(
    copies: list[str], score: str, rule: str, empty: float, unreadable: float
) -> None:
    settings = replace(SETTINGS, diverse_score=score, empty_images=rule)
    rows = mine(ColourPredictor(), copies, settings)
    assert [own for _, own in rows[4:]] == [empty, unreadable]
    assert ranked(rows) == {"last": "adcbef", "first": "eadcbf"}[rule]


def test_entropy_by_hand(copies: list[str]) -> None:
    """Faint 77/255: .521697, green 200/255: .274901, a share of .526936; 300 is above any sum."""
    settings = replace(SETTINGS, diverse_score="entropy")
    scores = scores_of(ColourPredictor(), copies, settings)
    assert scores[0] == pytest.approx(301 + 3 * STEP, abs=1e-9)
    assert 300.001 < scores[3] < 300.526936
    outside = scores_of(ColourPredictor(), copies, replace(settings, diverse_window=1))
    assert outside[1:4] == pytest.approx([0.521697, 0.521697, 0.274901], abs=1e-4)


@pytest.mark.parametrize("classes", [1, 3])
def test_a_real_network_repeats_itself(copies: list[str], classes: int) -> None:
    scores = scores_of(untrained(classes), copies, SETTINGS)
    assert scores == scores_of(untrained(classes), copies, SETTINGS)
    assert scores[5] == -1
    # Whichever copy stands first, the two others gain next to nothing.
    assert sum(score < 1.01 for score in scores[:3]) == 2
