"""How far two programs agree on detections and on a ranking: pure arithmetic on what they found.

Imported by `python -m bench.mining`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from ops.boxes import pairwise_iou

SAME_OBJECT = 0.5
"""IoU above which two boxes of one class are about the same object."""
SAME_BOX = 0.99

Rows = NDArray[np.floating]


@dataclass(frozen=True)
class Agreement:
    """Two programs' detections of the same images, one matched with the other."""

    ours: int
    theirs: int
    """Detections of each."""
    overlaps: NDArray[np.float64]
    """IoU of every matched pair, [pairs]; each detection is in one pair at most."""

    @property
    def same_share(self) -> float:
        """Share of both programs' detections that the other has with an IoU above 0.99."""
        both = self.ours + self.theirs
        return 2 * int((self.overlaps > SAME_BOX).sum()) / both if both else 1.0

    @property
    def matched_share(self) -> float:
        """Share of both programs' detections that the other has at all."""
        both = self.ours + self.theirs
        return 2 * len(self.overlaps) / both if both else 1.0

    @property
    def same_of_matched(self) -> float:
        """Share of the matched pairs whose IoU is above 0.99."""
        return float((self.overlaps > SAME_BOX).mean()) if len(self.overlaps) else 1.0


def agreement(ours: Sequence[Rows], theirs: Sequence[Rows]) -> Agreement:
    """Match the detections [n, 6] (xyxy, confidence, class) of two programs, image by image.

    Pairs are of one class and overlap by more than 0.5; those that overlap most are made first.
    """
    overlaps = [np.zeros(0)]
    for one, other in zip(ours, theirs, strict=True):
        overlaps.append(_pairs(np.asarray(one, np.float64), np.asarray(other, np.float64)))
    return Agreement(sum(map(len, ours)), sum(map(len, theirs)), np.concatenate(overlaps))


def _pairs(one: NDArray[np.float64], other: NDArray[np.float64]) -> NDArray[np.float64]:
    """IoU of the pairs of one image."""
    if not len(one) or not len(other):
        return np.zeros(0)
    iou = pairwise_iou(torch.from_numpy(one[:, :4]), torch.from_numpy(other[:, :4])).numpy()
    iou = np.where(one[:, None, 5] == other[None, :, 5], iou, 0.0)
    found = []
    while iou.max() > SAME_OBJECT:
        row, column = np.unravel_index(iou.argmax(), iou.shape)
        found.append(iou[row, column])
        iou[row, :] = iou[:, column] = 0.0
    return np.array(found, np.float64)


def spearman(one: Sequence[float], other: Sequence[float]) -> float:
    """Spearman's rank correlation of two lists of scores, equal scores sharing their mean rank.

    1 for lists that rank alike; not a number where one of them has a single value only.
    """
    first, second = ranks(one), ranks(other)
    first, second = first - first.mean(), second - second.mean()
    length = np.sqrt((first**2).sum() * (second**2).sum())
    return float((first * second).sum() / length) if length else float("nan")


def ranks(scores: Sequence[float]) -> NDArray[np.float64]:
    """Ranks from 1 for the smallest, equal scores sharing the mean of theirs."""
    _, place, counts = np.unique(np.asarray(scores), return_inverse=True, return_counts=True)
    last = counts.cumsum()
    return np.asarray((last - (counts - 1) / 2)[place], np.float64)
