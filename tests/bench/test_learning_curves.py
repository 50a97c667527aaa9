"""Areas, labels needed and paired statistics; expected numbers by hand."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from PIL import Image

from bench.curve_plot import draw_learning_curves
from bench.learning_curves import (
    Curve,
    area,
    curves_of,
    default_target,
    estimate,
    labels_needed,
    mean_curve,
    paired_difference,
    table,
)
from bench.round_log import START, RoundResult

RISING = Curve((20, 40, 60), (0.2, 0.6, 0.5))


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


@pytest.mark.parametrize(
    ("curve", "expected"),
    [
        # (20 (0.2 + 0.4)/2 + 20 (0.4 + 0.8)/2) / 40 = (6 + 12) / 40
        pytest.param(Curve((20, 40, 60), (0.2, 0.4, 0.8)), 0.45, id="even steps"),
        # (10 · 0.25 + 30 · 0.5) / 40 = 17.5 / 40
        pytest.param(Curve((10, 20, 50), (0.0, 0.5, 0.5)), 0.4375, id="uneven steps"),
        pytest.param(Curve((1, 101), (0.3, 0.3)), 0.3, id="level"),
    ],
)
def test_area(curve: Curve, expected: float) -> None:
    assert area(curve) == pytest.approx(expected)


def test_one_point_has_no_area() -> None:
    with pytest.raises(ValueError, match="no area"):
        area(Curve((20,), (0.2,)))


@pytest.mark.parametrize(
    ("labels", "values", "message"),
    [
        pytest.param((), (), "0 numbers", id="empty"),
        pytest.param((1, 2), (0.1,), "2 numbers of labels, 1 values", id="unequal"),
        pytest.param((2, 2), (0.1, 0.2), "do not rise", id="not rising"),
    ],
)
def test_curves_that_are_none(
    labels: tuple[int, ...], values: tuple[float, ...], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        Curve(labels, values)


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
    needed = labels_needed(RISING, target)
    assert needed == (None if expected is None else pytest.approx(expected))


def test_labels_needed_after_a_dip() -> None:
    # It reaches 0.3 between 30 (0.1) and 40 (0.5): half way.
    curve = Curve((10, 20, 30, 40), (0.2, 0.25, 0.1, 0.5))
    assert labels_needed(curve, 0.3) == pytest.approx(35.0)


def test_estimate() -> None:
    # Squares from 2.5: 2.25 + 0.25 + 0.25 + 2.25 = 5; sqrt(5/3) / sqrt(4) = 0.645497
    found = estimate([1.0, 4.0, 2.0, 3.0])
    assert (found.mean, found.count) == (2.5, 4)
    assert found.error == pytest.approx(0.645497, abs=1e-6)


def test_one_value_has_no_error() -> None:
    found = estimate([0.5])
    assert found.mean == 0.5
    assert math.isnan(found.error)
    assert str(found) == "0.5000 ± ?"
    with pytest.raises(ValueError, match="no values"):
        estimate([])


def test_paired_difference() -> None:
    # Over seeds 0, 1, 2: 0.10, 0.05, 0.20; mean 0.35/3 = 0.116667.
    # Squares from it: 0.000278 + 0.004444 + 0.006944 = 0.011667.
    # sqrt(0.011667 / 2) / sqrt(3) = 0.044096
    ours = {2: 0.9, 0: 0.5, 1: 0.6, 7: 0.1}
    others = {0: 0.4, 1: 0.55, 2: 0.7, 8: 0.9}
    found = paired_difference(ours, others)
    assert found is not None
    assert found.count == 3
    assert found.mean == pytest.approx(0.116667, abs=1e-6)
    assert found.error == pytest.approx(0.044096, abs=1e-6)
    assert paired_difference({0: 0.5}, {1: 0.5}) is None


def test_pairing_takes_out_what_a_seed_does_to_both() -> None:
    # The seeds differ by 0.4, the strategies by 0.01 at every seed.
    found = paired_difference({0: 0.31, 1: 0.71}, {0: 0.3, 1: 0.7})
    assert found is not None
    assert found.mean == pytest.approx(0.01)
    assert found.error == pytest.approx(0.0, abs=1e-9)


def test_mean_curve() -> None:
    mean = mean_curve([Curve((1, 2), (0.2, 0.4)), Curve((1, 2), (0.4, 1.0))])
    assert mean.labels == (1, 2)
    assert mean.values == pytest.approx((0.3, 0.7))
    with pytest.raises(ValueError, match="2 different rows"):
        mean_curve([Curve((1, 2), (0.2, 0.4)), Curve((1, 3), (0.2, 0.4))])


# Areas: random 0.3 and 0.5 (seeds 0, 1), cald 0.4 and 0.5; seed 1 of entropy is not over.
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


def test_only_whole_curves_count() -> None:
    curves = curves_of(RESULTS, NAMES, seeds=[0, 1, 2], rounds=2)
    assert list(curves) == NAMES
    assert {name: sorted(own) for name, own in curves.items()} == {
        "random": [0, 1],
        "cald": [0, 1],
        "entropy": [],
    }
    assert curves["cald"][0] == Curve((10, 20, 30), (0.2, 0.4, 0.6), 80)
    assert list(curves_of(RESULTS, ["entropy"], seeds=[1], rounds=1)["entropy"]) == [1]


def test_the_target_is_where_random_choice_ends() -> None:
    curves = curves_of(RESULTS, NAMES, seeds=[0, 1], rounds=2)
    assert default_target(curves) == pytest.approx(0.5)
    assert default_target({"cald": curves["cald"]}) is None


def test_the_table() -> None:
    curves = curves_of(RESULTS, NAMES, seeds=[0, 1], rounds=2)
    lines = table(curves, [0.5, 0.55]).splitlines()
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
    curves = curves_of(RESULTS, ["cald"], seeds=[0, 1], rounds=2)
    assert table(curves, []).splitlines()[2] == (
        "| cald | 2 | 0.4500 ± 0.0500 |  | 0.6000 ± 0.0000 | 81 |"
    )


@pytest.mark.parametrize("seeds", [[0, 1], [0], []], ids=["two seeds", "one", "none"])
def test_the_plot(tmp_path: Path, seeds: list[int]) -> None:
    path = tmp_path / "curves.png"
    draw_learning_curves(curves_of(RESULTS, NAMES, seeds=seeds, rounds=2), path)
    with Image.open(path) as picture:
        assert picture.size == (960, 600)
        colours = {rgb for _, rgb in picture.convert("RGB").getcolors(picture.size[0] * 600)}
    # The lines of random and cald, in their colours, wherever there is a curve.
    assert ((0x00, 0x72, 0xB2) in colours) == bool(seeds)
    assert ((0xD5, 0x5E, 0x00) in colours) == bool(seeds)
