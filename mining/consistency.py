"""CALD's score: how far the detections of an image survive a perturbation of it.

Method: «Consistency-based Active Learning for Object Detection» (arXiv 2103.10374), stage 1.
For a reference object k and its partner in the perturbed view (boxes already mapped there):

    m_k = IoU + (confidence_k + confidence_partner) / 2 * (1 - JS(s_k, s_partner))   in [0, 2]
    M_view = min over k of |m_k - 1.3|, at most 1;   M = mean over views

The smaller M, the more an annotation of the image is worth. Everything here is pure, works on any
one device, and takes all views of a batch at once: objects are padded with zeros, boxes without
area that overlap nothing.

Shape legend: v views, b images, k reference objects, d detections, c classes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ops.boxes import pairwise_iou

BASE_POINT = 1.3
"""The useful region of m: 2 is perfectly consistent, near 0 is mostly a wrong reference box."""
LARGEST = 1.0
"""No view counts for more than this."""
REFERENCE_LIMIT = 50


def class_distributions(probabilities: Tensor, confidence: Tensor) -> Tensor:
    """Sigmoid class probabilities [..., nc] as distributions float64 [..., max(nc, 2)].

    Each row is divided by its sum; a row without any mass becomes uniform. A single class says
    nothing when normalised, so there the distribution is (confidence, 1 - confidence).
    """
    if probabilities.shape[-1] == 1:
        sure = confidence.double().clamp(0, 1)
        return torch.stack((sure, 1 - sure), -1)
    mass = probabilities.double()
    total = mass.sum(-1, keepdim=True)
    return (mass / total).masked_fill_(total <= 0, 1 / mass.shape[-1])


def jensen_shannon(p: Tensor, q: Tensor) -> Tensor:
    """Jensen-Shannon divergence in nats, [...] in [0, ln 2], of distributions [..., c]."""
    mean = (p + q) / 2
    entropy = torch.special.entr
    divergence: Tensor = (entropy(mean) - (entropy(p) + entropy(q)) / 2).sum(-1).clamp(min=0)
    return divergence


@dataclass(frozen=True)
class Objects:
    """Detections of images with their class probabilities, padded with zeros."""

    rows: Tensor
    """float32 [..., k, 6]: xyxy in pixels, confidence, class."""
    probabilities: Tensor
    """float32 [..., k, c]: sigmoid class probabilities, not multiplied by objectness."""


@dataclass(frozen=True)
class Comparison:
    """Every reference object and its partner in each view, and M of the views of every image."""

    divergence: Tensor
    """float64 [v, b, k]: Jensen-Shannon divergence of both class distributions."""
    consistency: Tensor
    """float64 [v, b, k]: m in [0, 2]; 0 where nothing of the view overlaps."""
    inconsistency: Tensor
    """float64 [v, b]: M in [0, 1]; 0 where the view shows no object."""
    deciding: Tensor
    """int64 [v, b]: index of the object nearest to the base point."""
    decided: Tensor
    """bool [v, b]: whether its |m - 1.3| is M."""


def match(boxes: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
    """Per reference box [..., k, 4] the largest IoU and the index of that row of [..., d, 6].

    Whatever the class; ties go to the first. The index has no meaning where the IoU is 0.
    """
    overlap, partner = pairwise_iou(boxes, rows[..., :4]).max(-1)
    return overlap, partner


def compare(overlap: Tensor, reference: Objects, partners: Objects, empty: Tensor) -> Comparison:
    """Return M of all views, and its terms for every reference object.

    `overlap` [v, b, k] is that of the `reference` objects of b images with their `partners`; no
    other object counts. `empty` [v, b] tells which views show no object at all.
    """
    confidence = torch.cat((reference.rows[None, ..., 4], partners.rows[..., 4])).double()
    classes = torch.cat((reference.probabilities[None], partners.probabilities))
    distributions = class_distributions(classes, confidence)
    divergence = jensen_shannon(distributions[:1], distributions[1:])
    same = overlap + (confidence[:1] + confidence[1:]) / 2 * (1 - divergence)
    consistency = same.masked_fill_(overlap <= 0, 0)
    nearest, deciding = (consistency - BASE_POINT).abs().min(-1)
    smallest = nearest.clamp(max=LARGEST).masked_fill_(empty, 0)
    return Comparison(divergence, consistency, smallest, deciding, nearest <= LARGEST)


def reference_sample(count: int) -> np.ndarray:
    """Indices int64 of the objects that stand for an image with `count` of them.

    All of up to 50, else 50 equally spaced. (The official code spaces 50 over anything above 40;
    up to 50 that only repeats objects, which a minimum does not feel.)
    """
    if count <= REFERENCE_LIMIT:
        return np.arange(count)
    return np.round(np.linspace(0, count - 1, REFERENCE_LIMIT)).astype(np.int64)


def class_vectors(rows: Tensor, num_classes: int) -> Tensor:
    """Return per class the largest confidence of the rows [..., n, 6], 0 without any: [..., c].

    CALD averages this over the image's views.
    """
    vectors = rows.new_zeros((*rows.shape[:-2], num_classes))
    return vectors.scatter_reduce(-1, rows[..., 5].long(), rows[..., 4], "amax")
