"""Which labelled objects of an image a detector did not find; pure."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from evaluation.metrics import match_detections
from ops.boxes import pairwise_iou

FloatArray = NDArray[np.floating]
LEAST_IOU = np.array([0.5], np.float32)


def found_labels(detections: FloatArray, labels: FloatArray) -> NDArray[np.bool_]:
    """Which of the labels [m, 5] (class, xyxy) have a right detection at IoU 0.5: bool [m].

    `detections` is [n, 6]: xyxy, confidence, class, by falling confidence. The pairs are those
    that precision and recall are counted with, so the number found is the number of true
    positives.
    """
    found = np.zeros(len(labels), bool)
    right = match_detections(detections, labels, LEAST_IOU)[:, 0]
    if not right.any():
        return found
    overlap = pairwise_iou(
        torch.from_numpy(np.ascontiguousarray(detections[right, :4])),
        torch.from_numpy(np.ascontiguousarray(labels[:, 1:5])),
    ).numpy()
    same = detections[right, 5:6] == labels[:, 0]
    found[np.where(same, overlap, -1.0).argmax(1)] = True
    return found


def worst_first(missed: NDArray[np.integer], total: NDArray[np.integer]) -> NDArray[np.int64]:
    """Positions of the images that miss something: most missed first, then the larger share.

    `missed` and `total` [n] count the labelled objects of each image; ties keep their order.
    """
    share = missed / np.maximum(total, 1)
    order = np.lexsort((-share, -missed))
    return order[missed[order] > 0].astype(np.int64)
