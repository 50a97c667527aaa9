"""Test-time augmentation (TTA) as in v7.0: full size, 0.83 of it mirrored, and 0.67 of it."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

PAD_VALUE = 0.447
"""Pads a scaled image on the right and below: the mean of ImageNet, as in v7.0."""

Forward = Callable[[Tensor], Tensor]
"""Images [b, 3, h, w] to decoded rows [b, n, 5 + classes]."""


class View(NamedTuple):
    """The transform of one forward pass: flipped left to right if `mirrored`, then scaled."""

    scale: float
    mirrored: bool


VIEWS = (View(0.83, mirrored=True), View(0.67, mirrored=False))
"""What is seen beside the image as it is."""


def augmented_rows(
    forward: Forward, images: Tensor, first: Tensor, *, stride: int, levels: int
) -> Tensor:
    """Return the rows [b, n, 5 + classes] of all views, in pixels of `images` (float [b, 3, h, w]).

    h and w are multiples of `stride`, the largest of the network's `levels` strides. `first` are
    the rows of the unchanged images. The coarsest level of the first view and the finest of the
    last are left out; NMS is up to the caller.
    """
    rows = [first]
    for view in VIEWS:
        found = forward(transform(images, view, stride))
        # By the nominal scale, as in v7.0, which is up to a pixel off the true one at the far side.
        boxes = found[..., :4] / view.scale
        if view.mirrored:
            boxes = torch.cat((images.shape[-1] - boxes[..., :1], boxes[..., 1:]), -1)
        rows.append(torch.cat((boxes, found[..., 4:]), -1))
    # Rows run over the levels from fine to coarse, each with a quarter of the rows before it.
    parts = sum(4**level for level in range(levels))
    coarsest = first.shape[1] // parts
    finest = rows[-1].shape[1] // parts * 4 ** (levels - 1)
    rows[0], rows[-1] = first[:, : first.shape[1] - coarsest], rows[-1][:, finest:]
    every = torch.cat(rows, 1)
    # The first row of an image is not a number where a view is none: suppression looks there only.
    every[:, 0].add_(every[..., 0].sum(1, keepdim=True), alpha=0)
    return every


def transform(images: Tensor, view: View, stride: int) -> Tensor:
    """Flip images, scale them bilinearly and pad them to a multiple of `stride`.

    The content has int(side * scale) pixels and lies at the top left.
    """
    images = images.flip(-1) if view.mirrored else images
    height, width = images.shape[-2:]
    content = (int(height * view.scale), int(width * view.scale))
    padded_height, padded_width = (
        math.ceil(side * view.scale / stride) * stride for side in (height, width)
    )
    scaled = functional.interpolate(images, content, mode="bilinear", align_corners=False)
    missing = (0, padded_width - content[1], 0, padded_height - content[0])
    return functional.pad(scaled, missing, value=PAD_VALUE)
