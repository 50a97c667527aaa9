"""How much an image is worth learning from: its objects, weighed by how rare and how badly found.

Shape legend: n images, c classes. The formula is that of YOLOv5 v7.0's `--image-weights`.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from data.dataset_index import DatasetIndex
from evaluation.metrics import ClassMetrics

Floats = npt.NDArray[np.float64]


def class_weights(counts: npt.NDArray[np.integer]) -> Floats:
    """Inverse of the classes' box counts [c], of mean 1; a class without boxes counts as one."""
    inverse = 1.0 / np.maximum(counts, 1)
    return inverse / inverse.sum() * len(counts)


def image_weights(index: DatasetIndex, average_precision: npt.NDArray[np.floating]) -> Floats:
    """Weight of each image [n]: its boxes, each counted class weight x (1 - AP)^2 / c.

    `average_precision` [c] is mAP50-95 per class, 0 before the first evaluation. An image without
    boxes has weight 0.
    """
    classes = len(index.class_names)
    worth = class_weights(index.counts()) * (1 - np.asarray(average_precision)) ** 2 / classes
    image_of_box = np.repeat(np.arange(len(index)), np.diff(index.offsets))
    sums = np.bincount(image_of_box, weights=worth[index.classes], minlength=len(index))
    return sums.astype(np.float64)


def class_average_precision(metrics: ClassMetrics, classes: int) -> Floats:
    """mAP50-95 of each class [c]; of one that was not labelled, the mean of the others."""
    own = metrics.ap.mean(1) if len(metrics.classes) else np.zeros(0)
    filled = np.full(classes, own.mean() if len(own) else 0.0)
    filled[metrics.classes] = own
    return filled
