"""Scored candidates to kept detections, image by image: greedy non-maximum suppression."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ops.boxes import cxcywh_to_xyxy
from ops.nms_kernel import nms

# Pixels between classes, so that boxes of different classes never overlap. v7.0's value, added in
# float32: at class 79 it rounds corners to 1/16 px, and golden case `offset_rounding` counts on it.
CLASS_OFFSET = 7680
MAX_CANDIDATES = 30000  # v7.0's limit on the boxes of one image that enter suppression


@dataclass(frozen=True)
class Kept:
    """The detections of one image, by falling confidence.

    `rows` is float32 [n, 6]: x1, y1, x2, y2 in pixels of the network input, confidence, class.
    `source` is int64 [n]: the row of the prediction that each detection came from, so that
    `prediction[image, source, 5:]` are all its class scores; -1 for a prior.
    """

    rows: Tensor
    source: Tensor


def non_max_suppression(
    prediction: Tensor,
    *,
    confidence: float = 0.25,
    iou: float = 0.45,
    max_detections: int = 300,
    multi_label: bool = False,
    class_agnostic: bool = False,
    classes: Sequence[int] | None = None,
    priors: Sequence[Tensor] | None = None,
) -> list[Kept]:
    """The detections of each image of a batch, suppressed as YOLOv5 v7.0 does, without its clock.

    `prediction` [b, rows, 5 + classes] holds cx, cy, w, h in pixels, objectness and class
    probabilities. A row's score for a class is objectness times class probability; objectness
    and score must both exceed `confidence`. A row counts for its best class only or, with
    `multi_label`, for every class that passes. Of two boxes of one class (of any class if
    `class_agnostic`) whose IoU exceeds `iou`, the better scored stays; equal scores are taken in
    row order. `classes` keeps those classes only (none of them if empty). `priors` gives known
    labels [k, 5] (class, cx, cy, w, h in pixels) per image, which enter with score 1.
    An image without detections gives `Kept` with 0 rows. Everything stays on the device of
    `prediction`, which is not changed. ValueError for a threshold outside 0..1.
    """
    for name, value in (("confidence", confidence), ("iou", iou)):
        if not 0 <= value <= 1:
            raise ValueError(f"{name} is {value}; it must lie between 0 and 1")
    prediction = prediction.detach()
    # One mask over the whole batch: what follows only sees the few rows that can pass.
    image, source = (prediction[..., 4].float() > confidence).nonzero(as_tuple=True)
    rows = prediction[image, source].float()
    if priors is not None:
        rows, image, source = _with_priors(rows, image, source, priors)
    boxes = cxcywh_to_xyxy(rows[:, :4])
    picked, label, score = _score(rows, confidence, multi_label)
    if classes is not None:
        wanted = torch.isin(label, torch.tensor(classes, dtype=torch.long, device=label.device))
        picked, label, score = picked[wanted], label[wanted], score[wanted]
    counts = torch.bincount(image[picked], minlength=len(prediction)).tolist()
    kept = []
    for own, own_label, own_score in zip(
        picked.split(counts), label.split(counts), score.split(counts), strict=True
    ):
        best = _best_first(own_score)
        own, own_label, own_score = own[best], own_label[best], own_score[best]
        # Kept in float32 on purpose: see CLASS_OFFSET.
        offset = 0 if class_agnostic else (own_label * CLASS_OFFSET).to(boxes)[:, None]
        stay = _suppress(boxes[own] + offset, own_score, iou, max_detections)
        own = own[stay]
        columns = (boxes[own], own_score[stay, None], own_label[stay, None].to(boxes))
        kept.append(Kept(torch.cat(columns, 1), source[own]))
    return kept


def suppress_rows(rows: Tensor, *, iou: float, class_agnostic: bool, limit: int) -> Tensor:
    """Indices of the detections that stay, at most `limit`, of rows [n, 6] in falling confidence.

    Rows are xyxy in pixels of an image of any size, confidence, class: computed in float64, where
    the offset between classes rounds nothing.
    """
    boxes = rows[:, :4].double()
    if not class_agnostic and len(boxes):
        boxes = boxes + rows[:, 5:6].double() * (boxes.max() + 1)
    return _suppress(boxes, rows[:, 4].double(), iou, limit)


def _with_priors(
    rows: Tensor, image: Tensor, source: Tensor, priors: Sequence[Tensor]
) -> tuple[Tensor, Tensor, Tensor]:
    """Prediction rows [k, 5 + classes], image and source [k], with the labels of each image added.

    A label becomes a row that is certain of one class, and its source is -1.
    """
    label = torch.cat([prior.to(rows) for prior in priors])
    owner = torch.repeat_interleave(image.new_tensor([len(prior) for prior in priors]))
    certain = rows.new_zeros(len(label), rows.shape[1])
    certain[:, :4] = label[:, 1:]
    certain[:, 4] = 1
    certain.scatter_(1, 5 + label[:, :1].long(), 1.0)
    image = torch.cat((image, owner))
    order = image.argsort(stable=True)
    source = torch.cat((source, torch.full_like(owner, -1)))
    return torch.cat((rows, certain))[order], image[order], source[order]


def _score(rows: Tensor, confidence: float, multi_label: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Which of the rows [k, 5 + classes] pass, for what class, with what score; each [n]."""
    scores = rows[:, 5:] * rows[:, 4:5]
    if multi_label:
        picked, label = (scores > confidence).nonzero(as_tuple=True)
        return picked, label, scores[picked, label]
    best, best_label = scores.max(1)
    picked = (best > confidence).nonzero()[:, 0]
    return picked, best_label[picked], best[picked]


def _best_first(score: Tensor) -> Tensor:
    """Indices of the best candidates by falling score; equal scores keep their order."""
    if len(score) <= MAX_CANDIDATES:
        return score.sort(descending=True, stable=True).indices
    # Sorting millions of hopeless pairs would take longer than everything else together.
    among = (score >= score.topk(MAX_CANDIDATES).values[-1]).nonzero()[:, 0]
    return among[score[among].sort(descending=True, stable=True).indices[:MAX_CANDIDATES]]


def _suppress(boxes: Tensor, score: Tensor, iou: float, limit: int) -> Tensor:
    """Indices of the first `limit` survivors of greedy suppression; boxes come best first.

    Suppression never looks ahead: what survives among the best candidates survives among all.
    So it looks at the best few first, and further down only while survivors are missing.
    """
    threshold = float32_below(iou)
    reach = 2 * limit
    while True:
        survivors = nms(boxes[:reach], score[:reach], threshold)[:limit]
        if len(survivors) == limit or reach >= len(boxes):
            return survivors
        reach *= 2


def float32_below(value: float) -> float:
    """The largest float32 not above `value`.

    The CPU kernel compares with a float64 threshold, the CUDA kernel with a float32 one; this
    number divides the float32 IoUs as `value` does, for both.
    """
    nearest = np.float32(value)
    # Compared as Python floats: numpy 2 would round `value` to float32 first.
    if float(nearest) > value:
        nearest = np.nextafter(nearest, np.float32(0))
    return float(nearest)
