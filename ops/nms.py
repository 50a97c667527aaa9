"""Greedy non-maximum suppression (NMS) of a batch of predictions, with the results of v7.0."""

from __future__ import annotations

import importlib
import importlib.util
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ops.boxes import cxcywh_to_xyxy

# Pixels between classes, so that boxes of different classes never overlap. v7.0's value, added in
# float32: at class 79 it rounds corners to 1/16 px, and golden case `offset_rounding` counts on it.
CLASS_OFFSET = 7680
MAX_CANDIDATES = 30000  # v7.0's limit on the boxes of one image that enter suppression


@dataclass(frozen=True)
class NmsConfig:
    """Settings of NMS; defaults are v7.0's for detection. ValueError for a threshold outside 0..1.

    `confidence` is the confidence threshold, `iou` the NMS IoU threshold; both are exceeded, not
    reached. `classes` keeps only those classes (none of them if empty). With `class_agnostic` a
    box suppresses boxes of every class.
    """

    confidence: float = 0.25
    iou: float = 0.45
    max_detections: int = 300
    classes: tuple[int, ...] | None = None
    class_agnostic: bool = False

    def __post_init__(self) -> None:
        """Check the thresholds."""
        for name in ("confidence", "iou"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must lie between 0 and 1")


@dataclass(frozen=True)
class Detections:
    """The detections of one image, by falling confidence.

    `rows` is float32 [n, 6]: x1, y1, x2, y2 in pixels of the network input, confidence, class.
    `source` is int64 [n]: the row of the prediction that each detection came from, so that
    `prediction[image, source, 5:]` are all its class scores.
    """

    rows: Tensor
    source: Tensor


def non_max_suppression(
    prediction: Tensor, config: NmsConfig | None = None, *, multi_label: bool = False
) -> list[Detections]:
    """Return the detections of each image of a batch, as v7.0 does without its time limit.

    `prediction` [b, rows, 5 + classes] holds cx, cy, w, h in pixels, objectness and class
    probabilities; it is not changed, and results stay on its device. The score of a class is
    objectness times class probability; objectness and score must both exceed the confidence
    threshold. A row counts for its best class or, with `multi_label`, for every class that
    passes. Of two boxes of one class whose IoU exceeds the threshold the better scored stays;
    equal scores are taken in row order.
    """
    config = config or NmsConfig()
    prediction = prediction.detach()
    # One mask over the whole batch: what follows only sees the few rows that can pass.
    image, source = (prediction[..., 4].float() > config.confidence).nonzero(as_tuple=True)
    rows = prediction[image, source].float()
    boxes = cxcywh_to_xyxy(rows[:, :4])
    picked, label, score = _select_candidates(rows, config.confidence, multi_label)
    if config.classes is not None:
        wanted = torch.isin(label, torch.tensor(config.classes, dtype=torch.long).to(label.device))
        picked, label, score = picked[wanted], label[wanted], score[wanted]
    counts = torch.bincount(image[picked], minlength=len(prediction)).tolist()
    detections = []
    for rows_of_image, labels, scores in zip(
        picked.split(counts), label.split(counts), score.split(counts), strict=True
    ):
        best = _sort_by_score(scores)
        index, labels, scores = rows_of_image[best], labels[best], scores[best]
        # Kept in float32 on purpose: see CLASS_OFFSET.
        offset = 0 if config.class_agnostic else (labels * CLASS_OFFSET).to(boxes)[:, None]
        kept = _suppress(boxes[index] + offset, scores, config)
        index = index[kept]
        columns = (boxes[index], scores[kept, None], labels[kept, None].to(boxes))
        detections.append(Detections(torch.cat(columns, 1), source[index]))
    return detections


def suppress_rows(rows: Tensor, config: NmsConfig) -> Tensor:
    """Return the indices of the detections kept of rows [n, 6] in falling confidence.

    Rows are xyxy in pixels of an image of any size, confidence, class: computed in float64, where
    the offset between classes rounds nothing. The confidence threshold is not applied.
    """
    boxes = rows[:, :4].double()
    if not config.class_agnostic and len(boxes):
        boxes = boxes + rows[:, 5:6].double() * (boxes.max() + 1)
    return _suppress(boxes, rows[:, 4].double(), config)


def _select_candidates(
    rows: Tensor, confidence: float, multi_label: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Return row index, class and score, each [n], of what passes of rows [k, 5 + classes]."""
    scores = rows[:, 5:] * rows[:, 4:5]
    if multi_label:
        picked, label = (scores > confidence).nonzero(as_tuple=True)
        return picked, label, scores[picked, label]
    best, best_label = scores.max(1)
    picked = (best > confidence).nonzero()[:, 0]
    return picked, best_label[picked], best[picked]


def _sort_by_score(score: Tensor) -> Tensor:
    """Return the indices of the best `MAX_CANDIDATES` by falling score; equal scores in order."""
    if len(score) <= MAX_CANDIDATES:
        return score.sort(descending=True, stable=True).indices
    # Sorting millions of hopeless pairs would take longer than everything else together.
    among = (score >= score.topk(MAX_CANDIDATES).values[-1]).nonzero()[:, 0]
    return among[score[among].sort(descending=True, stable=True).indices[:MAX_CANDIDATES]]


def _suppress(boxes: Tensor, score: Tensor, config: NmsConfig) -> Tensor:
    """Return the indices kept by greedy suppression, at most `max_detections`; best come first.

    Suppression never looks ahead: what survives among the best candidates survives among all.
    So the best few are tried first, and more of them only while survivors are missing.
    """
    threshold, limit = float32_below(config.iou), config.max_detections
    tried = 2 * limit
    while True:
        kept: Tensor = nms_operator()(boxes[:tried], score[:tried], threshold)[:limit]
        if len(kept) == limit or tried >= len(boxes):
            return kept
        tried *= 2


@lru_cache(maxsize=1)
def nms_operator() -> Any:
    """Return `torchvision.ops.nms` without importing torchvision, which takes seconds.

    Where torchvision's operator library is not found or does not load, torchvision itself is
    imported, which then says what is wrong.
    """
    spec = importlib.util.find_spec("torchvision")
    folder = Path(spec.origin).parent if spec and spec.origin else Path()
    try:
        for library in sorted(folder.glob("_C*.so")):
            torch.ops.load_library(str(library))
        return torch.ops.torchvision.nms
    except (AttributeError, OSError, RuntimeError):
        return importlib.import_module("torchvision.ops").nms


def float32_below(value: float) -> float:
    """Return the largest float32 not above `value`.

    The CPU kernel compares with a float64 threshold, the CUDA kernel with a float32 one; this
    number divides the float32 IoUs as `value` does, for both.
    """
    nearest = np.float32(value)
    # Compared as Python floats: numpy 2 would round `value` to float32 first.
    if float(nearest) > value:
        nearest = np.nextafter(nearest, np.float32(0))
    return float(nearest)
