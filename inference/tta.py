"""Test-time augmentation (TTA) as in v7.0: full size, 0.83 of it mirrored, and 0.67 of it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

PAD_VALUE = 0.447
"""Pads a scaled image on the right and below: the mean of ImageNet, as in v7.0."""

Forward = Callable[[Tensor], Tensor]
"""Images [b, 3, h, w] to decoded rows [b, n, 5 + classes]."""


@dataclass(frozen=True)
class View:
    """The transform of one forward pass."""

    scale: float
    mirrored: bool
    """Flipped left to right, before scaling."""


VIEWS = (View(1.0, False), View(0.83, True), View(0.67, False))


def augmented_rows(
    forward: Forward, images: Tensor, *, stride: int, levels: int, first: Tensor | None = None
) -> Tensor:
    """Return the rows [b, n, 5 + classes] of all views, in pixels of `images` (float [b, 3, h, w]).

    h and w are multiples of `stride`, the largest of the network's `levels` strides. `first` are
    the rows of the unchanged images if they are known. The coarsest level of the first view and
    the finest of the last are left out; NMS is up to the caller.
    """
    width = images.shape[-1]
    rows = [forward(images) if first is None else first]
    for view in VIEWS[1:]:
        rows.append(restore_rows(forward(transform(images, view, stride)), view, width))
    return torch.cat(drop_tails(rows, levels), 1)


def transform(images: Tensor, view: View, stride: int) -> Tensor:
    """Flip images, scale them bilinearly and pad them to a multiple of `stride`.

    The content has int(side * scale) pixels and lies at the top left; at scale 1 nothing is padded.
    """
    images = images.flip(-1) if view.mirrored else images
    if view.scale == 1:
        return images
    height, width = images.shape[-2:]
    content = (int(height * view.scale), int(width * view.scale))
    padded_height, padded_width = (
        math.ceil(side * view.scale / stride) * stride for side in (height, width)
    )
    scaled = functional.interpolate(images, content, mode="bilinear", align_corners=False)
    missing = (0, padded_width - content[1], 0, padded_height - content[0])
    return functional.pad(scaled, missing, value=PAD_VALUE)


def restore_rows(rows: Tensor, view: View, width: int) -> Tensor:
    """Return rows [b, n, 5 + classes] with boxes (cx, cy, w, h) in pixels of the originals.

    They are divided by the nominal scale, as in v7.0, which is up to a pixel off the true one at
    the far side; `width` is that of the originals.
    """
    boxes = rows[..., :4] / view.scale
    if view.mirrored:
        boxes = torch.cat((width - boxes[..., :1], boxes[..., 1:]), -1)
    return torch.cat((boxes, rows[..., 4:]), -1)


def drop_tails(views: Sequence[Tensor], levels: int) -> list[Tensor]:
    """Drop the coarsest level of the first view's rows and the finest level of the last's.

    Rows run over the levels from fine to coarse, each with a quarter of the rows before it.
    """
    parts = sum(4**level for level in range(levels))
    first, last = views[0], views[-1]
    coarsest = first.shape[1] // parts
    finest = last.shape[1] // parts * 4 ** (levels - 1)
    return [first[:, : first.shape[1] - coarsest], *views[1:-1], last[:, finest:]]
