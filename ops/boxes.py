"""Box formats, area, clipping and the IoU family: pure geometry on tensors and arrays."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Boxes = TypeVar("Boxes", Tensor, NDArray)
Kind = Literal["iou", "giou", "diou", "ciou"]
Layout = Literal["xyxy", "cxcywh"]

# Added to every denominator; the value is v7.0's, so that degenerate boxes give the same numbers.
EPSILON = 1e-7


def _join(first: Boxes, second: Boxes) -> Boxes:
    """Columns of `first` followed by those of `second`, in the library they came in."""
    if isinstance(first, Tensor):
        return torch.cat((first, second), -1)
    return np.concatenate((first, second), -1)


def xyxy_to_cxcywh(boxes: Boxes) -> Boxes:
    """Boxes [..., 4] from corners (x1, y1, x2, y2) to centre and size, in the same unit.

    Integers become floats (a centre may lie on a half). An empty input gives an empty output.
    """
    low, high = boxes[..., :2], boxes[..., 2:]
    return _join((low + high) / 2, high - low)


def cxcywh_to_xyxy(boxes: Boxes) -> Boxes:
    """Boxes [..., 4] from centre and size to corners (x1, y1, x2, y2), in the same unit.

    Integers become floats. An empty input gives an empty output.
    """
    centre, half = boxes[..., :2], boxes[..., 2:] / 2
    return _join(centre - half, centre + half)


def clip(boxes: Boxes, size_hw: Sequence[float]) -> Boxes:
    """A copy of boxes [..., 4+] (xyxy pixels first) held inside an image of size (height, width).

    Further columns are kept as they are; a third entry of `size_hw` (channels) is not read.
    """
    height, width = size_hw[0], size_hw[1]
    held = boxes.clone() if isinstance(boxes, Tensor) else boxes.copy()
    held[..., 0:4:2] = held[..., 0:4:2].clip(0, width)
    held[..., 1:4:2] = held[..., 1:4:2].clip(0, height)
    return held


def area(boxes: Boxes) -> Boxes:
    """Areas [...] of boxes [..., 4], xyxy; a box turned inside out has area 0."""
    sides = (boxes[..., 2:] - boxes[..., :2]).clip(min=0)
    return sides[..., 0] * sides[..., 1]


def pairwise_iou(a: Tensor, b: Tensor) -> Tensor:
    """IoU [n, m] of every box of `a` [n, 4] with every box of `b` [m, 4], xyxy, any one unit.

    0 for boxes without area. An empty `a` or `b` gives an empty table of shape [n, m].
    """
    low = torch.maximum(a[:, None, :2], b[None, :, :2])
    high = torch.minimum(a[:, None, 2:], b[None, :, 2:])
    width, height = (high - low).clamp(min=0).unbind(-1)
    shared = width * height
    return shared / (area(a)[:, None] + area(b)[None, :] - shared + EPSILON)


def aligned_iou(a: Tensor, b: Tensor, *, kind: Kind = "iou", layout: Layout = "xyxy") -> Tensor:
    """Overlap [...] of each box of `a` [..., 4] with the box of `b` [..., 4] in the same place.

    Both are in `layout` and in any one unit. `iou` lies in 0..1; `giou` (arXiv:1902.09630)
    subtracts the empty share of the hull, `diou` and `ciou` (arXiv:1911.08287) the distance
    of the centres, and `ciou` also the difference of the aspect ratios. The weight of that last
    term carries no gradient, as in v7.0. Where v7.0 gives NaN (width and height both 0), the
    angle of the aspect ratio is taken as 0, and values and gradients stay finite.
    """
    a_low, a_high, a_centre, a_size = _parts(a, layout)
    b_low, b_high, b_centre, b_size = _parts(b, layout)
    a_width, a_height = a_size.unbind(-1)
    b_width, b_height = b_size.unbind(-1)
    sides = torch.minimum(a_high, b_high) - torch.maximum(a_low, b_low)
    width, height = sides.clamp(min=0).unbind(-1)
    shared = width * height
    union = a_width * a_height + b_width * b_height - shared + EPSILON
    iou = shared / union
    if kind == "iou":
        return iou
    hull = torch.maximum(a_high, b_high) - torch.minimum(a_low, b_low)
    if kind == "giou":
        hull_area = hull[..., 0] * hull[..., 1] + EPSILON
        return iou - (hull_area - union) / hull_area
    distance = (b_centre - a_centre).square().sum(-1) / (hull.square().sum(-1) + EPSILON)
    if kind == "diou":
        return iou - distance
    difference = _aspect_angle(b_width, b_height) - _aspect_angle(a_width, a_height)
    aspect = (4 / torch.pi**2) * difference.square()
    with torch.no_grad():
        weight = aspect / (aspect - iou + (1 + EPSILON))
    return iou - (distance + aspect * weight)


def _parts(boxes: Tensor, layout: Layout) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Low corner, high corner, centre and size of boxes [..., 4], each [..., 2]."""
    first, second = boxes[..., :2], boxes[..., 2:]
    if layout == "xyxy":
        return first, second, (first + second) / 2, second - first
    return first - second / 2, first + second / 2, first, second


def _aspect_angle(width: Tensor, height: Tensor) -> Tensor:
    """The angle whose tangent is width / height; 0, with a finite gradient, where both are 0."""
    nothing = (width == 0) & (height == 0)
    return torch.atan2(width, height + nothing)
