"""Anchors: their fit to the boxes of a data set, and the search for anchors that fit better.

Rules and constants are those of YOLOv5 v7.0's autoanchor: k-means (Lloyd) on box sizes, then an
evolution by random mutation. Sizes are (w, h) in pixels of the network input.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

GOOD_RECALL = 0.98
"""Anchors are worth replacing when their best possible recall is at or below this (v7.0)."""
MIN_SIDE = 2.0
"""Least side of an anchor in pixels; boxes smaller both ways are not searched for (v7.0)."""
MAX_BOXES = 20_000
"""Boxes that the search samples: the mean of so many is sure to well below one percent."""
RESTARTS = 30
GENERATIONS = 1000

_MAX_ITERATIONS = 100
_CONVERGED = 1e-5
_MUTATION_PROBABILITY = 0.9
_MUTATION_SIGMA = 0.1
_MUTATION_RANGE = 0.3, 3.0

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class AnchorFit:
    """`best_possible_recall`: share of boxes that match at least one anchor, 0 to 1.

    `anchors_above_threshold`: mean number of anchors that match a box.
    """

    best_possible_recall: float
    anchors_above_threshold: float

    @property
    def good(self) -> bool:
        """Whether training with these anchors loses practically no box."""
        return self.best_possible_recall > GOOD_RECALL


def anchor_fit(
    anchors_px: NDArray[np.floating], wh_px: NDArray[np.floating], threshold: float = 4.0
) -> AnchorFit:
    """Compute the fit of anchors [k, 2] to box sizes [n, 2].

    An anchor matches a box when neither side differs by the factor `threshold` or more:
    min(wh / anchor, anchor / wh) > 1 / threshold, as in v7.0. Boxes without width or height never
    match. Without boxes the recall is 1 and the count 0.
    """
    matches = matches_per_box(anchors_px, wh_px, threshold)
    if len(matches) == 0:
        return AnchorFit(1.0, 0.0)
    return AnchorFit(float(np.mean(matches > 0)), float(np.mean(matches)))


def matches_per_box(
    anchors_px: NDArray[np.floating], wh_px: NDArray[np.floating], threshold: float = 4.0
) -> NDArray[np.int64]:
    """Count the anchors [k, 2] that match each box size [n, 2]: int [n]."""
    boxes = np.asarray(wh_px, dtype=np.float32).reshape(-1, 2)
    anchors = np.asarray(anchors_px, dtype=np.float32).reshape(-1, 2)
    matches = np.zeros(len(boxes), dtype=np.int64)
    limit = np.float32(1 / threshold)
    for anchor in anchors:
        ratio = boxes / anchor
        inverse = np.divide(1, ratio, out=np.zeros_like(ratio), where=ratio > 0)
        matches += np.minimum(ratio, inverse).min(axis=1) > limit
    return matches


def label_sizes(
    boxes: NDArray[np.floating],
    offsets: NDArray[np.integer],
    image_sizes: NDArray[np.integer],
    image_size: int,
) -> NDArray[np.float32]:
    """Return sizes [m, 2] in network pixels of boxes [m, 4], xyxy in pixels of their images.

    Image i has the size `image_sizes[i]` (h, w) and the boxes `offsets[i]:offsets[i + 1]`; its
    longer side becomes `image_size` pixels.
    """
    longest = np.asarray(image_sizes).reshape(-1, 2).max(axis=1, initial=1)
    scale = np.repeat(image_size / longest, np.diff(offsets))
    corners = np.asarray(boxes).reshape(-1, 4)
    sizes: NDArray[np.floating] = (corners[:, 2:] - corners[:, :2]) * scale[:, None]
    return sizes.astype(np.float32)


def in_stride_order(
    anchors: Sequence[Sequence[float]], strides: Sequence[float]
) -> tuple[tuple[float, ...], ...]:
    """Return anchor rows (w, h, w, h, ...) such that larger boxes belong to larger strides.

    The rows are reversed when the mean area changes from first to last level in the other
    direction than the stride does (rule of v7.0).
    """
    rows = tuple(tuple(row) for row in anchors)
    areas = [np.mean(np.multiply(row[0::2], row[1::2])) for row in rows]
    growth, steps = areas[-1] - areas[0], strides[-1] - strides[0]
    return rows[::-1] if growth and np.sign(growth) != np.sign(steps) else rows


def search_anchors(
    wh_px: NDArray[np.floating],
    count: int,
    *,
    image_size: int,
    threshold: float,
    generator: np.random.Generator,
) -> NDArray[np.float32]:
    """Find `count` anchors [count, 2], by area, for box sizes [n, 2].

    `threshold` is the largest side ratio of a box and its anchor. With fewer different boxes than
    anchors, random sizes up to `image_size` are refined instead.
    """
    boxes = np.asarray(wh_px, np.float64).reshape(-1, 2)
    boxes = boxes[(boxes >= MIN_SIDE).any(axis=1)]
    if len(boxes) > MAX_BOXES:
        boxes = boxes[np.sort(generator.choice(len(boxes), MAX_BOXES, replace=False))]
    deviation = boxes.std(axis=0) if len(boxes) else np.ones(2)
    deviation[deviation == 0] = 1
    centres = cluster_centres(boxes / deviation, count, generator)
    if centres is None:
        anchors = np.sort(generator.random(count * 2)).reshape(count, 2) * image_size
    else:
        anchors = centres * deviation
    anchors = np.maximum(anchors, MIN_SIDE)
    if len(boxes):
        anchors = refine_anchors(_by_area(anchors), boxes, threshold, generator)
    return _by_area(anchors).astype(np.float32)


def cluster_centres(points: Floats, count: int, generator: np.random.Generator) -> Floats | None:
    """Return the k-means centres [count, 2] of points [n, 2]: the best of several random starts.

    None when there are fewer different points than centres.
    """
    different = np.unique(points, axis=0)
    if len(different) < count:
        return None
    runs = (
        _lloyd(points, different[generator.choice(len(different), count, replace=False)])
        for _ in range(RESTARTS)
    )
    return min(runs, key=lambda run: run[1])[0]


def _lloyd(points: Floats, centres: Floats) -> tuple[Floats, float]:
    """Iterate Lloyd's algorithm until it converges; return centres and mean distance to them."""
    count, before = len(centres), np.inf
    for _ in range(_MAX_ITERATIONS):
        squares = (points[:, None, 0] - centres[:, 0]) ** 2
        squares += (points[:, None, 1] - centres[:, 1]) ** 2
        nearest = squares.argmin(axis=1)
        distance = float(np.sqrt(squares.min(axis=1)).mean())
        if before - distance <= _CONVERGED:
            return centres, distance
        before = distance
        members = np.bincount(nearest, minlength=count)
        sums = np.stack([np.bincount(nearest, points[:, axis], count) for axis in (0, 1)], axis=1)
        # A centre without points stays where it is.
        centres = np.where(members[:, None] > 0, sums / np.maximum(members, 1)[:, None], centres)
    return centres, before


def refine_anchors(
    best: Floats, boxes: Floats, threshold: float, generator: np.random.Generator
) -> Floats:
    """Mutate anchors [k, 2] `GENERATIONS` times and keep each change that raises the fitness."""
    tiny = np.finfo(np.float32).tiny
    sizes = np.log(np.maximum(boxes, tiny)).T.astype(np.float32)
    fitness = _fitness(sizes, best, threshold)
    for _ in range(GENERATIONS):
        candidate = np.maximum(best * _mutation(best.shape, generator), MIN_SIDE)
        found = _fitness(sizes, candidate, threshold)
        if found > fitness:
            best, fitness = candidate, found
    return best


def _fitness(sizes: NDArray[np.float32], anchors: Floats, threshold: float) -> float:
    """Compute v7.0's fitness, 0 to 1, of anchors [k, 2] for the logarithms of box sizes [2, n].

    Mean over the boxes of min(side / anchor side, anchor side / side) of the best anchor, counted
    as 0 where that anchor does not match the box.
    """
    # Ratios are differences of logarithms: five times cheaper than divisions both ways.
    logs = np.log(anchors).astype(np.float32)
    apart = np.abs(sizes[0] - logs[:, 0, None])
    np.maximum(apart, np.abs(sizes[1] - logs[:, 1, None]), out=apart)
    best = np.exp(-apart.min(axis=0))
    return float(np.mean(best * (best > np.float32(1 / threshold)), dtype=np.float64))


def _mutation(shape: tuple[int, ...], generator: np.random.Generator) -> Floats:
    """Draw factors near 1, not all of them 1."""
    while True:
        changed = generator.random(shape) < _MUTATION_PROBABILITY
        step = generator.random() * generator.standard_normal(shape) * _MUTATION_SIGMA
        factors = np.clip(changed * step + 1, *_MUTATION_RANGE)
        if (factors != 1).any():
            return factors


def _by_area(anchors: Floats) -> Floats:
    return anchors[np.argsort(anchors.prod(axis=1), kind="stable")]
