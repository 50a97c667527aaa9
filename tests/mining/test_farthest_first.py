"""The farthest-first order: worked by hand, then against a slow loop."""

from __future__ import annotations

import numpy as np
import pytest

from mining.farthest_first import farthest_first

UNIT = 1000.0
EAST, NORTH, WEST = (1000, 0), (0, 1000), (-1000, 0)


def points(*rows: tuple[int, int]) -> np.ndarray:
    return np.array(rows, np.float32).reshape(-1, 2)


@pytest.mark.parametrize(
    ("weights", "rows", "order", "gains"),
    [
        # Shares of the largest distance, 2: east to north sqrt(2) / 2 = .707107, to west 1.
        # After the first: double .9 * 0, north .5 * .707107 = .353553, west .4 * 1 = .4. After
        # west, north is as far as before: .353553.
        pytest.param(
            [1.0, 0.9, 0.5, 0.4], [EAST, EAST, NORTH, WEST],
            [0, 3, 2, 1], [1, 0.4, 0.353553, 0], id="double last, far before near",
        ),
        # North .8 * .707107 = .565685 beats west .4; then west is .707107 from north: .282843.
        pytest.param(
            [1.0, 0.8, 0.4], [EAST, NORTH, WEST],
            [0, 1, 2], [1, 0.565685, 0.282843], id="weight counts, nearest counts",
        ),
        pytest.param(
            [0.5, 0.5, 0.5], [NORTH, EAST, WEST],
            [0, 1, 2], [0.5, 0.353553, 0.353553], id="ties to the first",
        ),
        # (600, 800) to east: sqrt(400^2 + 800^2) = 894.427, of 2000: .447214
        pytest.param(
            [1.0, 1.0], [EAST, (600, 800)], [0, 1], [1, 0.447214], id="between",
        ),
        pytest.param([0.0, 0.0], [EAST, NORTH], [0, 1], [0, 0], id="no weight"),
        pytest.param([0.3], [(0, 0)], [0], [0.3], id="one, of no direction"),
        pytest.param([], [], [], [], id="none"),
    ],
)  # fmt: skip
def test_by_hand(
    weights: list[float], rows: list[tuple[int, int]], order: list[int], gains: list[float]
) -> None:
    found, gained = farthest_first(np.array(weights), points(*rows), UNIT)
    assert found.tolist() == order
    assert gained.tolist() == pytest.approx(gains, abs=1e-6)


def slow(weights: np.ndarray, rows: np.ndarray, unit: float) -> list[int]:
    """The rule word for word, in whole numbers."""
    whole, order = rows.astype(np.int64), list[int]()
    while len(order) < len(rows):
        best, best_gain = -1, -1.0
        for n in set(range(len(rows))) - set(order):
            squares = [int(((whole[n] - whole[other]) ** 2).sum()) for other in order]
            gain = weights[n] * min([1.0, *(np.sqrt(s) / (2 * unit) for s in squares)])
            if gain > best_gain or (gain == best_gain and n < best):
                best, best_gain = n, gain
        order.append(best)
    return order


@pytest.mark.parametrize("unit", [1.0, 30.0, 2048.0])
def test_equals_the_slow_loop(unit: float) -> None:
    """A small unit makes many of the points equal."""
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((60, 5))
    rows = np.rint(rows / np.linalg.norm(rows, axis=1, keepdims=True) * unit).astype(np.float32)
    weights = rng.integers(1, 4, 60) / 3
    order, gains = farthest_first(weights, rows, unit)
    assert order.tolist() == slow(weights, rows, unit)
    assert (np.diff(gains) <= 0).all()
    # Whichever way products are added up, nothing changes: here in another order of numbers.
    again = farthest_first(weights, np.ascontiguousarray(rows[:, ::-1]), unit)
    assert (again[0] == order).all()
    assert (again[1] == gains).all()


def test_arguments_stay_as_they_were() -> None:
    weights, rows = np.array([0.5, 1.0]), points(EAST, NORTH)
    farthest_first(weights, rows, UNIT)
    assert weights.tolist() == [0.5, 1.0]
    assert rows.tolist() == [list(EAST), list(NORTH)]
