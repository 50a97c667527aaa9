"""CALD's score: how far the detections of an image survive a perturbation of it.

Method: «Consistency-based Active Learning for Object Detection» (arXiv 2103.10374), stage 1.
For a reference object k and its partner in the perturbed view (boxes already mapped there):

    m_k = IoU + (confidence_k + confidence_partner) / 2 * (1 - JS(s_k, s_partner))   in [0, 2]
    M_view = min over k of |m_k - 1.3|, at most 1;   M = mean over views

The smaller M, the more an annotation of the image is worth. Everything here is pure, works on any
one device, and takes the objects of several images at once: flat, with a count per image.
"""

from __future__ import annotations

from collections.abc import Sequence
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


@dataclass(frozen=True)
class Objects:
    """The objects of a batch of images, one image after the other."""

    boxes: Tensor
    """float32 [n, 4]: xyxy in pixels."""
    confidence: Tensor
    """float [n]: objectness times the best class probability."""
    distributions: Tensor
    """float64 [n, c]: class distributions, each summing to 1."""
    counts: tuple[int, ...]
    """Objects per image; their sum is n."""


def join_objects(boxes: Sequence[Tensor], found: Sequence[tuple[Tensor, Tensor]]) -> Objects:
    """Objects from boxes [n_i, 4] and (rows [n_i, 6], class probabilities [n_i, nc]) per image."""
    rows = torch.cat([rows for rows, _ in found])
    probabilities = torch.cat([classes for _, classes in found])
    return Objects(
        torch.cat(list(boxes)).to(rows.device),
        rows[:, 4],
        class_distributions(probabilities, rows[:, 4]),
        tuple(len(own) for own in boxes),
    )


def class_distributions(probabilities: Tensor, confidence: Tensor) -> Tensor:
    """Sigmoid class probabilities [n, nc] as distributions float64 [n, max(nc, 2)].

    Each row is divided by its sum; a row without any mass becomes uniform. A single class says
    nothing when normalised, so there the distribution is (confidence, 1 - confidence).
    """
    if probabilities.shape[1] == 1:
        sure = confidence.double().clamp(0, 1)
        return torch.stack((sure, 1 - sure), 1)
    mass = probabilities.double()
    total = mass.sum(1, keepdim=True)
    even = torch.full_like(mass, 1 / mass.shape[1])
    return torch.where(total > 0, mass / total.where(total > 0, torch.ones_like(total)), even)


def jensen_shannon(p: Tensor, q: Tensor) -> Tensor:
    """Jensen-Shannon divergence in nats, [n] in [0, ln 2], of distributions [n, c] summing to 1."""
    mean = (p + q) / 2
    entropy = torch.special.entr
    divergence: Tensor = (entropy(mean) - (entropy(p) + entropy(q)) / 2).sum(-1).clamp(min=0)
    return divergence


def match(reference: Objects, view: Objects) -> tuple[Tensor, Tensor]:
    """Per reference object the largest IoU [n] and the index [n] of that object of the view.

    Within the same image, whatever the class; ties go to the first. IoU is 0 (and the index
    without meaning) where no object of the view overlaps.
    """
    overlaps = [reference.boxes.new_zeros(0)]
    partners = [torch.zeros(0, dtype=torch.int64, device=reference.boxes.device)]
    start = 0
    for own, others in zip(
        reference.boxes.split(list(reference.counts)),
        view.boxes.split(list(view.counts)),
        strict=True,
    ):
        if len(others):
            overlap, partner = pairwise_iou(own, others).max(1)
            partner = partner + start
        else:
            # 0 and not `start`, which lies outside when no later image shows an object either.
            overlap, partner = own.new_zeros(len(own)), partners[0].new_zeros(len(own))
        overlaps.append(overlap)
        partners.append(partner)
        start += len(others)
    return torch.cat(overlaps), torch.cat(partners)


@dataclass(frozen=True)
class Comparison:
    """Every reference object and its partner in a view, and M of the view for every image."""

    overlap: Tensor
    """float32 [n]: IoU."""
    partner: Tensor
    """int64 [n]: index of the partner among the view's objects; without meaning at IoU 0."""
    divergence: Tensor
    """float64 [n]: Jensen-Shannon divergence of both class distributions."""
    consistency: Tensor
    """float64 [n]: m in [0, 2]; 0 where nothing of the view overlaps."""
    inconsistency: Tensor
    """float64 [b]: M in [0, 1]; 0 where the view shows no object."""
    deciding: Tensor
    """int64 [b]: index of the object whose |m - 1.3| is M; n where it is no object's."""


def compare(reference: Objects, view: Objects) -> Comparison:
    """Return M of one view for every image, and its terms for every reference object."""
    overlap, partner = match(reference, view)
    if len(view.boxes):
        divergence = jensen_shannon(reference.distributions, view.distributions[partner])
        confidence = (reference.confidence.double() + view.confidence[partner].double()) / 2
        same = overlap.double() + confidence * (1 - divergence)
        consistency = torch.where(overlap > 0, same, torch.zeros_like(same))
    else:
        divergence, consistency = torch.zeros_like(overlap).double(), overlap.double()
    distance = (consistency - BASE_POINT).abs()
    device, count = distance.device, len(reference.counts)
    images = torch.arange(count, device=device)
    image = torch.repeat_interleave(images, torch.tensor(reference.counts, device=device))
    smallest = torch.full((count,), LARGEST, dtype=torch.float64, device=device)
    smallest = smallest.scatter_reduce(0, image, distance, "amin")
    objects = torch.arange(len(distance), device=device)
    own = torch.where(distance == smallest[image], objects, len(distance))
    deciding = torch.full_like(images, len(distance)).scatter_reduce(0, image, own, "amin")
    shown = torch.tensor([count > 0 for count in view.counts], device=device)
    smallest = torch.where(shown, smallest, torch.zeros_like(smallest))
    return Comparison(overlap, partner, divergence, consistency, smallest, deciding)


def reference_sample(count: int) -> np.ndarray:
    """Indices int64 of the objects that stand for an image with `count` of them.

    All of up to 50, else 50 equally spaced. (The official code spaces 50 over anything above 40;
    up to 50 that only repeats objects, which a minimum does not feel.)
    """
    if count <= REFERENCE_LIMIT:
        return np.arange(count)
    return np.round(np.linspace(0, count - 1, REFERENCE_LIMIT)).astype(np.int64)


def class_vector(rows: Tensor, num_classes: int) -> Tensor:
    """Return per class the largest confidence of an image's rows [n, 6], 0 without any: [c].

    CALD averages this over the image's views.
    """
    vector = rows.new_zeros(num_classes)
    return vector.scatter_reduce(0, rows[:, 5].long(), rows[:, 4], "amax")
