"""Box formats, area, clipping and IoU; corners are (x1, y1, x2, y2)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

import torch
from numpy.typing import NDArray
from torch import Tensor

Boxes = TypeVar("Boxes", Tensor, NDArray[Any])

EPSILON = 1e-7
"""Added to every denominator; v7.0's value, so that degenerate boxes give the same numbers."""


def cxcywh_to_xyxy(boxes: Tensor) -> Tensor:
    """Convert boxes [..., 4] from (cx, cy, w, h) to corners (x1, y1, x2, y2), in floats."""
    centre, half = boxes[..., :2], boxes[..., 2:] / 2
    return torch.cat((centre - half, centre + half), -1)


def clip(boxes: Boxes, size_hw: Sequence[float]) -> Boxes:
    """Return a copy of boxes [..., 4+] (xyxy pixels first) clipped to an image (height, width).

    Further columns are copied; a third entry of `size_hw` (channels) is ignored.
    """
    height, width = size_hw[0], size_hw[1]
    clipped = boxes.clone() if isinstance(boxes, Tensor) else boxes.copy()
    clipped[..., 0:4:2] = clipped[..., 0:4:2].clip(0, width)
    clipped[..., 1:4:2] = clipped[..., 1:4:2].clip(0, height)
    return clipped


def area(boxes: Boxes) -> Boxes:
    """Return the areas [...] of boxes [..., 4] xyxy; 0 for inverted corners."""
    sides = (boxes[..., 2:] - boxes[..., :2]).clip(min=0)
    areas: Boxes = sides[..., 0] * sides[..., 1]
    return areas


def pairwise_iou(a: Tensor, b: Tensor) -> Tensor:
    """Return the IoU matrices [..., n, m] of boxes `a` [..., n, 4] and `b` [..., m, 4], xyxy in one
    unit.

    Boxes without area have IoU 0; n or m may be 0.
    """
    low = torch.maximum(a[..., :, None, :2], b[..., None, :, :2])
    high = torch.minimum(a[..., :, None, 2:], b[..., None, :, 2:])
    width, height = (high - low).clamp(min=0).unbind(-1)
    intersection = width * height
    union = area(a)[..., :, None] + area(b)[..., None, :] - intersection + EPSILON
    return intersection / union


def aligned_iou(a: Tensor, b: Tensor, *, complete: bool = False) -> Tensor:
    """Return the element-wise IoU [...] of boxes `a` and `b` [..., 4] (cx, cy, w, h), in one unit.

    The `complete` IoU (CIoU, arXiv:1911.08287) subtracts the normalised centre distance and an
    aspect-ratio term whose weight carries no gradient, as in v7.0. Where v7.0 gives NaN (width and
    height both 0) the angle of the aspect ratio is 0, so values and gradients stay finite.
    """
    a_centre, a_size = a[..., :2], a[..., 2:]
    b_centre, b_size = b[..., :2], b[..., 2:]
    a_low, a_high = a_centre - a_size / 2, a_centre + a_size / 2
    b_low, b_high = b_centre - b_size / 2, b_centre + b_size / 2
    a_width, a_height = a_size.unbind(-1)
    b_width, b_height = b_size.unbind(-1)
    sides = torch.minimum(a_high, b_high) - torch.maximum(a_low, b_low)
    width, height = sides.clamp(min=0).unbind(-1)
    intersection = width * height
    union = a_width * a_height + b_width * b_height - intersection + EPSILON
    iou = intersection / union
    if not complete:
        return iou
    enclosing = torch.maximum(a_high, b_high) - torch.minimum(a_low, b_low)
    distance = (b_centre - a_centre).square().sum(-1) / (enclosing.square().sum(-1) + EPSILON)
    sizes = torch.stack([b_size, a_size])
    # Where both are 0 the height is taken for 1, so that the angle has a finite gradient.
    angles = torch.atan2(sizes[..., 0], sizes[..., 1] + (sizes == 0).all(-1))
    b_angle, a_angle = angles.unbind()
    aspect = (4 / torch.pi**2) * (b_angle - a_angle).square()
    with torch.no_grad():
        weight = aspect / (aspect - iou + (1 + EPSILON))
    return iou - (distance + aspect * weight)
