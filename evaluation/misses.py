"""Which labelled objects of an image a detector did not find; pure."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from evaluation.metrics import match_with_labels

FloatArray = NDArray[np.floating]


def found_labels(detections: FloatArray, labels: FloatArray) -> NDArray[np.bool_]:
    """Which of the labels [m, 5] (class, xyxy) have a right detection at IoU 0.5: bool [m].

    `detections` is [n, 6]: xyxy, confidence, class, by falling confidence. The pairs are those
    that precision and recall are counted with, so the number found is the number of true
    positives.
    """
    correct, label = match_with_labels(detections, labels)
    found = np.zeros(len(labels), bool)
    found[label[correct[:, 0]]] = True
    return found


def worst_first(missed: NDArray[np.integer], total: NDArray[np.integer]) -> NDArray[np.int64]:
    """Positions of the images that miss something: most missed first, then the larger share.

    `missed` and `total` [n] count the labelled objects of each image; ties keep their order.
    """
    share = missed / np.maximum(total, 1)
    order = np.lexsort((-share, -missed))
    return order[missed[order] > 0].astype(np.int64)
