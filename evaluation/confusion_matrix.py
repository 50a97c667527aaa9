"""The confusion matrix of a split."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from evaluation.metrics import FloatArray, crowd_overlap, iou_matrix

NO_REGIONS = np.zeros((0, 5), np.float32)


class ConfusionMatrix:
    """Counts [nc + 1, nc + 1] over images: rows predicted, columns true, the last is background.

    Detections above `confidence` are matched with labels of any class by IoU above `iou`: the
    highest IoU first, each label and each detection once. An unmatched detection counts as
    background, where v7.0 forgets it in images without any match; it counts nowhere with more than
    a share `iou` of its area in a crowd region of its class.
    """

    def __init__(self, num_classes: int, *, confidence: float = 0.25, iou: float = 0.45) -> None:
        self.num_classes = num_classes
        self.confidence = confidence
        self.iou = iou
        self.matrix = np.zeros((num_classes + 1, num_classes + 1), dtype=np.int64)

    def add(
        self, detections: FloatArray, labels: FloatArray, crowds: FloatArray = NO_REGIONS
    ) -> None:
        """Count an image: detections [n, 6] xyxy, confidence, class; labels [m, 5] and crowd
        regions [k, 5] class, xyxy.
        """
        detections = detections[detections[:, 4] > self.confidence]
        detection, label = _match(detections[:, :4], labels[:, 1:5], self.iou)
        predicted = detections[:, 5].astype(np.int64)
        true = labels[:, 0].astype(np.int64)
        background = self.num_classes

        np.add.at(self.matrix, (predicted[detection], true[label]), 1)
        self.matrix[background] += np.bincount(np.delete(true, label), minlength=background + 1)
        outside = crowd_overlap(detections, crowds) <= self.iou
        outside[detection] = False
        self.matrix[:, background] += np.bincount(predicted[outside], minlength=background + 1)


def _match(
    detections: FloatArray, labels: FloatArray, threshold: float
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Match boxes [n, 4] with boxes [m, 4], xyxy: indices of detections, and of their labels."""
    if not len(detections) or not len(labels):
        return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)
    overlap = iou_matrix(detections, labels)
    label = overlap.argmax(1)
    best = overlap.max(1)
    candidates = np.flatnonzero(best > threshold)
    candidates = candidates[np.argsort(-best[candidates], kind="stable")]
    chosen, first = np.unique(label[candidates], return_index=True)
    return candidates[first], chosen
