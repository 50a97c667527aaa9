"""New anchors for given box sizes: k-means finds them, random mutation refines them.

The procedure and its constants are YOLOv5 v7.0's (spec: training, section 8). All draws come from
the generator given, so the same boxes and seed give the same anchors.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

RESTARTS = 30
GENERATIONS = 1000
SMALLEST_BOX = 2.0
"""Boxes with both sides below this many pixels take no part (v7.0)."""
SMALLEST_ANCHOR = 2.0
"""Least side of an anchor that mutation may propose, in pixels (v7.0)."""
SAMPLE = 20_000
"""Most boxes that are looked at: the mean of so many is sure to well below one percent."""

_ROUNDS = 100
_STILL = 1e-5
_MUTATED = 0.9
_STRENGTH = 0.1
_LEAST_FACTOR, _MOST_FACTOR = 0.3, 3.0

Floats = NDArray[np.float64]


def search_anchors(
    wh_px: NDArray[np.floating],
    count: int,
    *,
    image_size: int,
    threshold: float,
    generator: np.random.Generator,
    generations: int = GENERATIONS,
) -> NDArray[np.float32]:
    """`count` anchors [count, 2], (w, h) in pixels, for boxes [n, 2] of the same unit; by area.

    `threshold` is the largest side ratio of a box and its anchor. With fewer different boxes than
    anchors, random sizes up to `image_size` are refined instead.
    """
    boxes = np.asarray(wh_px, np.float64).reshape(-1, 2)
    boxes = boxes[(boxes >= SMALLEST_BOX).any(axis=1)]
    if len(boxes) > SAMPLE:
        boxes = boxes[np.sort(generator.choice(len(boxes), SAMPLE, replace=False))]
    spread = boxes.std(axis=0) if len(boxes) else np.ones(2)
    spread[spread == 0] = 1
    centres = cluster_centres(boxes / spread, count, generator=generator)
    if centres is None:
        anchors = np.sort(generator.random(count * 2)).reshape(count, 2) * image_size
    else:
        anchors = centres * spread
    anchors = np.maximum(anchors, SMALLEST_ANCHOR)
    if len(boxes):
        anchors = refine_anchors(
            _by_area(anchors),
            boxes,
            threshold=threshold,
            generator=generator,
            generations=generations,
        )
    return _by_area(anchors).astype(np.float32)


def cluster_centres(
    points: Floats, count: int, *, generator: np.random.Generator, restarts: int = RESTARTS
) -> Floats | None:
    """Centres [count, 2] of k-means on points [n, 2]: the best of several random starts.

    None when there are fewer different points than centres.
    """
    different = np.unique(points, axis=0)
    if len(different) < count:
        return None
    runs = (
        _lloyd(points, different[generator.choice(len(different), count, replace=False)])
        for _ in range(restarts)
    )
    return min(runs, key=lambda run: run[1])[0]


def _lloyd(points: Floats, centres: Floats) -> tuple[Floats, float]:
    """Centres moved to the mean of their points until they rest, and the mean distance to them."""
    count, before = len(centres), np.inf
    for _ in range(_ROUNDS):
        squares = (points[:, None, 0] - centres[:, 0]) ** 2
        squares += (points[:, None, 1] - centres[:, 1]) ** 2
        nearest = squares.argmin(axis=1)
        distance = float(np.sqrt(squares.min(axis=1)).mean())
        if before - distance <= _STILL:
            return centres, distance
        before = distance
        members = np.bincount(nearest, minlength=count)
        sums = np.stack([np.bincount(nearest, points[:, axis], count) for axis in (0, 1)], axis=1)
        # A centre without points stays where it is.
        centres = np.where(members[:, None] > 0, sums / np.maximum(members, 1)[:, None], centres)
    return centres, before


def refine_anchors(
    anchors: Floats,
    boxes: Floats,
    *,
    threshold: float,
    generator: np.random.Generator,
    generations: int = GENERATIONS,
) -> Floats:
    """Anchors [k, 2] mutated many times over; a change stays when `anchor_fitness` rises."""
    sizes = _logarithms(boxes)
    best = np.asarray(anchors, np.float64)
    fitness = _fitness(sizes, best, threshold)
    for _ in range(generations):
        candidate = np.maximum(best * _mutation(best.shape, generator), SMALLEST_ANCHOR)
        found = _fitness(sizes, candidate, threshold)
        if found > fitness:
            best, fitness = candidate, found
    return best


def anchor_fitness(
    anchors_px: NDArray[np.floating], wh_px: NDArray[np.floating], threshold: float
) -> float:
    """How closely anchors [k, 2] fit boxes [n, 2], 0 to 1.

    Mean over the boxes of min(side / anchor side, anchor side / side) of the best anchor, counted
    as 0 where that anchor may not answer for the box (v7.0).
    """
    return _fitness(_logarithms(wh_px), np.asarray(anchors_px, np.float64), threshold)


def _logarithms(wh_px: NDArray[np.floating]) -> NDArray[np.float32]:
    # Ratios become differences: five times cheaper than divisions both ways.
    tiny = np.finfo(np.float32).tiny
    return np.log(np.maximum(np.asarray(wh_px, np.float64), tiny)).T.astype(np.float32)


def _fitness(sizes: NDArray[np.float32], anchors: Floats, threshold: float) -> float:
    logs = np.log(anchors).astype(np.float32)
    apart = np.abs(sizes[0] - logs[:, 0, None])
    np.maximum(apart, np.abs(sizes[1] - logs[:, 1, None]), out=apart)
    best = np.exp(-apart.min(axis=0))
    return float(np.mean(best * (best > np.float32(1 / threshold)), dtype=np.float64))


def _mutation(shape: tuple[int, ...], generator: np.random.Generator) -> Floats:
    """Factors near 1, not all of them 1."""
    while True:
        changed = generator.random(shape) < _MUTATED
        step = generator.random() * generator.standard_normal(shape) * _STRENGTH
        factors = np.clip(changed * step + 1, _LEAST_FACTOR, _MOST_FACTOR)
        if (factors != 1).any():
            return factors


def _by_area(anchors: Floats) -> Floats:
    return anchors[np.argsort(anchors.prod(axis=1), kind="stable")]
