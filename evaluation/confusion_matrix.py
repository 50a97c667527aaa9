"""Which class is taken for which, with a background for what is invented or missed."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from ops.boxes import pairwise_iou


class ConfusionMatrix:
    """Counts [nc + 1, nc + 1] over images: rows predicted, columns true, the last is background.

    Detections above `confidence` are paired with labels by overlap above `iou`, whatever their
    class: the largest overlap first, each label and each detection once. A detection without a
    partner counts as background; v7.0 forgets it in images where nothing has a partner, which
    `official_background` reproduces for comparison.
    """

    def __init__(
        self,
        num_classes: int,
        *,
        confidence: float = 0.25,
        iou: float = 0.45,
        official_background: bool = False,
    ) -> None:
        self.num_classes = num_classes
        self.confidence = confidence
        self.iou = iou
        self.official_background = official_background
        self.matrix = np.zeros((num_classes + 1, num_classes + 1), dtype=np.int64)

    def add(self, detections: NDArray[np.floating] | None, labels: NDArray[np.floating]) -> None:
        """Count one image: detections [n, 6] xyxy, confidence, class; labels [m, 5] class, xyxy.

        No detections may be given as None.
        """
        if detections is None:
            detections = np.zeros((0, 6), dtype=np.float32)
        detections = detections[detections[:, 4] > self.confidence]
        detection, label = _pairs(detections[:, :4], labels[:, 1:5], self.iou)
        predicted = detections[:, 5].astype(np.int64)
        true = labels[:, 0].astype(np.int64)
        background = self.num_classes

        np.add.at(self.matrix, (predicted[detection], true[label]), 1)
        self.matrix[background] += np.bincount(np.delete(true, label), minlength=background + 1)
        if len(detection) or not self.official_background:
            invented = np.delete(predicted, detection)
            self.matrix[:, background] += np.bincount(invented, minlength=background + 1)

    def counts(self) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """Per class [nc]: true positives, false positives, false negatives."""
        right = self.matrix.diagonal()[:-1].copy()
        return right, self.matrix.sum(1)[:-1] - right, self.matrix.sum(0)[:-1] - right


def _pairs(
    detections: NDArray[np.floating], labels: NDArray[np.floating], threshold: float
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Partners among boxes [n, 4] and [m, 4] (xyxy): indices of detections, and of labels."""
    nobody = np.zeros(0, dtype=np.int64)
    if not len(detections) or not len(labels):
        return nobody, nobody
    overlap = pairwise_iou(
        torch.from_numpy(np.ascontiguousarray(detections)),
        torch.from_numpy(np.ascontiguousarray(labels)),
    ).numpy()
    label = overlap.argmax(1)
    best = overlap.max(1)
    candidates = np.flatnonzero(best > threshold)
    candidates = candidates[np.argsort(-best[candidates], kind="stable")]
    chosen, first = np.unique(label[candidates], return_index=True)
    return candidates[first], chosen
