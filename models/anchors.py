"""How well the anchors of a network fit the boxes of a data set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

GOOD_RECALL = 0.98
"""Anchors are worth replacing when their best possible recall is at or below this (v7.0)."""


@dataclass(frozen=True)
class AnchorFit:
    """`best_possible_recall`: share of boxes that some anchor may answer for, 0 to 1.

    `anchors_above_threshold`: how many anchors may answer for a box, on average.
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
    """The fit of anchors [k, 2] to box sizes [n, 2], both (w, h) in pixels of the network input.

    An anchor may answer for a box when neither side differs by the factor `threshold` or more:
    min(wh / anchor, anchor / wh) > 1 / threshold, as in v7.0. No boxes: nothing can be missed,
    so the recall is 1 and the count 0. Boxes of no width or height are never answered for.
    """
    answers = answers_per_box(anchors_px, wh_px, threshold)
    if len(answers) == 0:
        return AnchorFit(1.0, 0.0)
    return AnchorFit(float(np.mean(answers > 0)), float(np.mean(answers)))


def answers_per_box(
    anchors_px: NDArray[np.floating], wh_px: NDArray[np.floating], threshold: float = 4.0
) -> NDArray[np.int64]:
    """How many of the anchors [k, 2] may answer for each box size [n, 2]: int [n]."""
    boxes = np.asarray(wh_px, dtype=np.float32).reshape(-1, 2)
    anchors = np.asarray(anchors_px, dtype=np.float32).reshape(-1, 2)
    answers = np.zeros(len(boxes), dtype=np.int64)
    limit = np.float32(1 / threshold)
    for anchor in anchors:
        ratio = boxes / anchor
        inverse = np.divide(1, ratio, out=np.zeros_like(ratio), where=ratio > 0)
        answers += np.minimum(ratio, inverse).min(axis=1) > limit
    return answers


def label_sizes(
    boxes: NDArray[np.floating],
    offsets: NDArray[np.integer],
    image_sizes: NDArray[np.integer],
    image_size: int,
) -> NDArray[np.float32]:
    """Sizes [m, 2] (w, h) in network pixels of boxes [m, 4], xyxy in pixels of their images.

    Image i has the size `image_sizes[i]` (h, w) and the boxes `offsets[i]:offsets[i + 1]`; its
    longer side becomes `image_size` pixels.
    """
    longest = np.asarray(image_sizes).reshape(-1, 2).max(axis=1, initial=1)
    scale = np.repeat(image_size / longest, np.diff(offsets))
    sizes = np.asarray(boxes).reshape(-1, 4)
    return ((sizes[:, 2:] - sizes[:, :2]) * scale[:, None]).astype(np.float32)


def in_stride_order(
    anchors: Sequence[Sequence[float]], strides: Sequence[float]
) -> tuple[tuple[float, ...], ...]:
    """Anchor rows (w, h, w, h, ...) such that larger boxes belong to larger strides.

    The rows are reversed when the mean area changes from first to last level in the other
    direction than the stride does (rule of v7.0); otherwise they come back as they are.
    """
    rows = tuple(tuple(row) for row in anchors)
    areas = [np.mean(np.multiply(row[0::2], row[1::2])) for row in rows]
    growth, steps = areas[-1] - areas[0], strides[-1] - strides[0]
    return rows[::-1] if growth and np.sign(growth) != np.sign(steps) else rows


def is_placeholder(anchors: Sequence[Sequence[float]]) -> bool:
    """Whether anchor rows (w, h, w, h, ..., one row per level) stand only for their number.

    A model file may give a number instead of sizes; v7.0 then writes 0, 1, 2, ... for every level.
    No network has the same anchors on every level, nor any without a size.
    """
    rows = {tuple(row) for row in anchors}
    return (len(anchors) > 1 and len(rows) == 1) or any(size <= 0 for row in rows for size in row)
