"""Farthest-first order of weighted points: unlike those before, and worth a label themselves.

The greedy rule of the k-centre problem (Gonzalez 1985), with a weight for each point: after the
point of the largest weight, always the one whose

    gain = weight * distance to the nearest point before it

is largest. A point that equals an earlier one gains nothing and comes at the end.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

LARGEST_DISTANCE = 2.0
"""Between opposite unit vectors. Distances are given as shares of it."""


def farthest_first(
    weights: NDArray[np.float64], points: NDArray[np.float32], unit: float
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """All of n points in their order, int64 [n], and the gain of each in that order, float64 [n].

    `weights` [n] are not below 0. `points` [n, d] are vectors of length `unit` (or 0), rounded to
    whole numbers: for a `unit` up to 4000 their products are exact in float32, so that the order
    does not depend on how a machine adds. Gains never rise; the first is its weight. Ties go to
    the point that is given first.

    Memory is that of the points; time n * n * d, as each chosen point is compared with all.
    """
    count = len(points)
    order, gains = np.zeros(count, np.int64), np.zeros(count)
    lengths = np.square(points.astype(np.float64)).sum(1)
    nearest, taken = np.ones(count), np.zeros(count, np.bool_)
    for rank in range(count):
        gain = np.where(taken, -1.0, weights * nearest)
        chosen = int(gain.argmax())
        order[rank], gains[rank], taken[chosen] = chosen, gain[chosen], True
        products = (points @ points[chosen]).astype(np.float64)
        distances = np.sqrt(lengths + lengths[chosen] - 2 * products)
        np.minimum(nearest, distances / (LARGEST_DISTANCE * unit), out=nearest)
    return order, gains
