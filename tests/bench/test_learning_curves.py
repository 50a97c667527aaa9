"""Areas, labels needed, paired differences and the plot; expected numbers by hand."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

from bench.active_rounds import START, RoundResult
from bench.learning_curves import (
    area,
    by_seed,
    complete_curves,
    default_target,
    estimate,
    labels_needed,
    plot_curves,
    table,
)


def result(seed: int, strategy: str, number: int, map50: float) -> RoundResult:
    return RoundResult(
        seed=seed,
        strategy=strategy,
        round_number=number,
        added=(),
        labels=10 + 10 * number,
        boxes=40 * number + 2 * seed,
        epochs=1,
        map50=map50,
        map50_95=0.0,
        losses=(0.0, 0.0, 0.0),
        seconds=0.0,
    )


def curve(labels: list[int], values: list[float]) -> pd.Series:
    return pd.Series(values, index=labels)


@pytest.mark.parametrize(
    ("labels", "values", "expected"),
    [
        # (20 (0.2 + 0.4)/2 + 20 (0.4 + 0.8)/2) / 40 = (6 + 12) / 40
        pytest.param([20, 40, 60], [0.2, 0.4, 0.8], 0.45, id="even steps"),
        # (10 · 0.25 + 30 · 0.5) / 40 = 17.5 / 40
        pytest.param([10, 20, 50], [0.0, 0.5, 0.5], 0.4375, id="uneven steps"),
        pytest.param([1, 101], [0.3, 0.3], 0.3, id="level"),
    ],
)
def test_area_under_the_curve(labels: list[int], values: list[float], expected: float) -> None:
    areas = area(pd.DataFrame({7: values, 8: [2 * value for value in values]}, index=labels))
    assert areas.to_dict() == pytest.approx({7: expected, 8: 2 * expected})


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        pytest.param(0.1, 20.0, id="below the first"),
        pytest.param(0.2, 20.0, id="the first itself"),
        pytest.param(0.4, 30.0, id="half way: 20 + 20 · 0.2/0.4"),
        pytest.param(0.55, 37.5, id="20 + 20 · 0.35/0.4, before it falls"),
        pytest.param(0.6, 40.0, id="the highest"),
        pytest.param(0.61, None, id="never"),
    ],
)
def test_labels_needed(target: float, expected: float | None) -> None:
    needed = labels_needed(curve([20, 40, 60], [0.2, 0.6, 0.5]), target)
    assert needed == (None if expected is None else pytest.approx(expected))


def test_labels_needed_after_a_dip() -> None:
    # It reaches 0.3 between 30 (0.1) and 40 (0.5): half way.
    assert labels_needed(curve([10, 20, 30, 40], [0.2, 0.25, 0.1, 0.5]), 0.3) == pytest.approx(35)


def test_an_estimate_is_mean_and_standard_error() -> None:
    # Squares from 2.5: 2.25 + 0.25 + 0.25 + 2.25 = 5; sqrt(5/3) / sqrt(4) = 0.645497
    assert estimate(pd.Series([1.0, 4.0, 2.0, 3.0])) == "2.5000 ± 0.6455"
    assert estimate(pd.Series([0.5]), "+") == "+0.5000 ± ?"


# Areas: random 0.3 and 0.5 (seeds 0, 1), cald 0.4 and 0.5; seed 1 of entropy is not complete.
RESULTS = [
    result(0, START, 0, 0.2),
    result(0, "random", 1, 0.3),
    result(0, "random", 2, 0.4),
    result(0, "cald", 1, 0.4),
    result(0, "cald", 2, 0.6),
    result(1, START, 0, 0.4),
    result(1, "random", 1, 0.5),
    result(1, "random", 2, 0.6),
    result(1, "cald", 1, 0.5),
    result(1, "cald", 2, 0.6),
    result(1, "entropy", 1, 0.9),
]
NAMES = ["random", "cald", "entropy"]


def curves(seeds: list[int]) -> pd.DataFrame:
    return complete_curves(RESULTS, NAMES, seeds, rounds=2)


def test_only_complete_curves_count() -> None:
    found = curves([0, 1, 2])
    assert by_seed(found, "cald").to_dict() == {
        0: {10: 0.2, 20: 0.4, 30: 0.6},
        1: {10: 0.4, 20: 0.5, 30: 0.6},
    }
    assert by_seed(found, "entropy").empty
    assert not complete_curves(RESULTS, ["entropy"], [1], rounds=1).empty


def test_the_target_is_where_random_choice_ends() -> None:
    assert default_target(curves([0, 1])) == pytest.approx([0.5])
    assert default_target(complete_curves(RESULTS, ["cald"], [0, 1], rounds=2)) == []


def test_the_table() -> None:
    lines = table(curves([0, 1]), NAMES, [0.5, 0.55]).splitlines()
    assert len({line.count("|") for line in lines}) == 1
    # random: areas 0.3 and 0.5: 0.4, sqrt(0.02) / sqrt(2) = 0.1; it ends at 0.4 and 0.6.
    # Its mean curve 0.3, 0.4, 0.5 reaches 0.5 at 30 and 0.55 never; seed 1 alone reaches both.
    assert lines[2] == (
        "| random | 2 | 0.4000 ± 0.1000 |  | 0.5000 ± 0.1000 | 30 (1 of 2 seeds) "
        "| not reached (1 of 2 seeds) | 81 |"
    )
    # cald: areas 0.4 and 0.5; minus random 0.1 and 0.0; mean curve 0.3, 0.45, 0.6.
    # 0.5 is a third of the way from 20 to 30, 0.55 two thirds.
    assert lines[3] == (
        "| cald | 2 | 0.4500 ± 0.0500 | +0.0500 ± 0.0500 (2 pairs) | 0.6000 ± 0.0000 "
        "| 23 (2 of 2 seeds) | 27 (2 of 2 seeds) | 81 |"
    )
    assert lines[4].startswith("| entropy | 0 |")


def test_a_table_without_random_has_no_differences() -> None:
    found = complete_curves(RESULTS, ["cald"], [0, 1], rounds=2)
    assert table(found, ["cald"], []).splitlines()[2] == (
        "| cald | 2 | 0.4500 ± 0.0500 |  | 0.6000 ± 0.0000 | 81 |"
    )


@pytest.mark.parametrize("seeds", [[0, 1], [0], []], ids=["two seeds", "one", "none"])
def test_the_plot_shows_every_strategy_with_a_curve(tmp_path: Path, seeds: list[int]) -> None:
    path = tmp_path / "curves.png"
    plot_curves(curves(seeds), NAMES, path)
    with Image.open(path) as picture:
        assert picture.size == (960, 600)
        colours = {rgb for _, rgb in picture.convert("RGB").getcolors(picture.size[0] * 600)}
    # The lines of random and cald, in their colours, wherever there is a curve.
    assert ((0x00, 0x72, 0xB2) in colours) == bool(seeds)
    assert ((0xD5, 0x5E, 0x00) in colours) == bool(seeds)
