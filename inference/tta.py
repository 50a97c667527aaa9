"""Test-time augmentation as v7.0 does it: a batch seen at three scales, as one list of candidates.

A reimplementation of the rule, not of the code: full size, 0.83 of it mirrored, 0.67 of it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

BORDER = 0.447
"""What pads a shrunken image on the right and below: the mean of ImageNet, v7.0's choice."""

Look = Callable[[Tensor], Tensor]
"""Images [b, 3, h, w] to decoded rows [b, n, 5 + classes], as `Detect.decode` gives them."""


@dataclass(frozen=True)
class Change:
    """How the images of one pass differ from the originals."""

    scale: float
    mirrored: bool
    """Left and right exchanged, before scaling."""


CHANGES = (Change(1.0, False), Change(0.83, True), Change(0.67, False))


def augmented_rows(
    look: Look, images: Tensor, *, stride: int, levels: int, first: Tensor | None = None
) -> Tensor:
    """Candidates [b, n, 5 + classes] of all passes, in pixels of `images` (float [b, 3, h, w]).

    h and w are multiples of `stride`, the largest of the network's `levels` strides. `first` may
    hand in what `look` says of the unchanged images, where that is known already. The coarsest
    level of the first pass and the finest of the last are left out; suppression is for the caller.
    """
    width = images.shape[-1]
    passes = [look(images) if first is None else first]
    for change in CHANGES[1:]:
        passes.append(restored(look(changed(images, change, stride)), change, width))
    return torch.cat(without_tails(passes, levels), 1)


def changed(images: Tensor, change: Change, stride: int) -> Tensor:
    """The images of one pass: mirrored, shrunk bilinearly, padded to a multiple of `stride`.

    The content has int(side * scale) pixels and lies at the top left; at scale 1 nothing is padded.
    """
    seen = images.flip(-1) if change.mirrored else images
    if change.scale == 1:
        return seen
    height, width = images.shape[-2:]
    content = (int(height * change.scale), int(width * change.scale))
    padded_height, padded_width = (
        math.ceil(side * change.scale / stride) * stride for side in (height, width)
    )
    seen = functional.interpolate(seen, content, mode="bilinear", align_corners=False)
    missing = (0, padded_width - content[1], 0, padded_height - content[0])
    return functional.pad(seen, missing, value=BORDER)


def restored(rows: Tensor, change: Change, width: int) -> Tensor:
    """Rows [b, n, 5 + classes] of a pass, their boxes (cx, cy, w, h) in pixels of the originals.

    Divided by the nominal scale, as in v7.0, which is up to a pixel off the true one at the far
    side; `width` is that of the originals.
    """
    boxes = rows[..., :4] / change.scale
    if change.mirrored:
        boxes = torch.cat((width - boxes[..., :1], boxes[..., 1:]), -1)
    return torch.cat((boxes, rows[..., 4:]), -1)


def without_tails(passes: Sequence[Tensor], levels: int) -> list[Tensor]:
    """The rows of each pass without the coarsest level of the first and the finest of the last.

    Rows run over the levels from fine to coarse, each with a quarter of the rows before it.
    """
    parts = sum(4**level for level in range(levels))
    first, last = passes[0], passes[-1]
    coarsest = first.shape[1] // parts
    finest = last.shape[1] // parts * 4 ** (levels - 1)
    return [first[:, : first.shape[1] - coarsest], *passes[1:-1], last[:, finest:]]
