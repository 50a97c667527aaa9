"""CALD's views of a batch of images whose network inputs have one shape, as tensors.

Views whose network inputs have one shape share a forward pass. What differs between images goes to
the device in one copy.

Shape legend: v views, b images, k reference objects, d detections.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from mining.data_augment import (
    VIEWS,
    accepted_tries,
    box_map,
    cutout_tries,
    hide_,
    map_boxes,
    view_size,
)
from mining.scores import upload
from ops.letterbox import PAD_VALUE, Letterbox, Size

Pass = tuple[Size, list[str]]
"""The shape of network inputs, and the views that have it."""


@dataclass(frozen=True)
class Views:
    """The views of a batch, on the device."""

    names: list[str]
    """In the order of v."""
    canvases: list[Tensor]
    """uint8 [views of the pass * b, 3, h, w] for each pass: RGB, contents centred on grey."""
    boxes: Tensor
    """float32 [v, b, k, 4]: the reference boxes, mapped, in pixels of the content."""
    corners: Tensor
    """float32 [v, b, 4]: (left, top, left, top) of each content."""
    sizes: Tensor
    """float32 [v, b, 4]: its (width, height, width, height)."""

    def inside(self, boxes: Tensor) -> Tensor:
        """Map boxes [v, b, d, 4] of the canvases to pixels of their contents, clipped."""
        return _inside(boxes, self.corners, self.sizes)


def make_views(
    names: Sequence[str],
    images: Tensor,
    letterboxes: Sequence[Letterbox],
    boxes: Tensor,
    *,
    generators: Sequence[np.random.Generator],
    stride: int,
) -> Views:
    """Return the views `names` of network inputs `images`, uint8 [b, 3, h, w], and of their boxes.

    `boxes` [b, k, 4] are xyxy in pixels of the inputs, zeros where there is none; `generators` draw
    the cut-outs of each image. Images with equal borders are best neighbours: they are perturbed
    together. A view that shrinks the content shrinks the network input along with it, up to the
    next multiple of the stride.
    """
    passes = _passes(names, letterboxes[0].shape, stride)
    ordered = [(name, shape) for shape, own in passes for name in own]
    contents = [one.resized for one in letterboxes]
    tries = [cutout_tries(*pair) for pair in zip(contents, generators, strict=True)]
    corner, size, corners, sizes, maps, drawn = upload(
        [
            np.array([_twice(one.borders[2], one.borders[0]) for one in letterboxes]),
            np.array([_twice(width, height) for height, width in contents]),
            np.array([[_corner(*one, each) for each in contents] for one in ordered]),
            np.array([[_size(name, each) for each in contents] for name, _ in ordered]),
            np.array([[box_map(name, each) for each in contents] for name, _ in ordered]),
            np.array(tries),
        ],
        images.device,
    )
    reference = _inside(boxes, corner.float(), size.float())
    hidden = accepted_tries(reference, drawn) + corner[:, None] if "cutout" in names else None
    return Views(
        [name for name, _ in ordered],
        [_canvas(images, letterboxes, one, hidden).flatten(0, 1) for one in passes],
        map_boxes(reference, maps, sizes),
        corners.float(),
        sizes.float(),
    )


def _passes(names: Sequence[str], shape: Size, stride: int) -> list[Pass]:
    """Return the views by the shape of their network inputs, for images of the input `shape`."""
    passes: dict[Size, list[str]] = {}
    for name in names:
        height, width = (-(-side // stride) * stride for side in view_size(name, shape))
        passes.setdefault((height, width), []).append(name)
    return list(passes.items())


def _canvas(
    images: Tensor, letterboxes: Sequence[Letterbox], one: Pass, hidden: Tensor | None
) -> Tensor:
    """Return the network inputs [v, b, 3, h, w] of a pass; `hidden` [b, count, 4] are cut out."""
    (height, width), names = one
    canvas = images.new_full((len(names), len(images), 3, height, width), PAD_VALUE)
    for first, end in _runs(letterboxes):
        (top, _, left, _), (rows, columns) = letterboxes[first].borders, letterboxes[first].resized
        content = images[first:end, :, top : top + rows, left : left + columns]
        for target, name in zip(canvas, names, strict=True):
            made = VIEWS[name](content)
            rows, columns = made.shape[-2:]
            top, left = (height - rows) // 2, (width - columns) // 2
            target[first:end, :, top : top + rows, left : left + columns] = made
    if hidden is not None and "cutout" in names:
        hide_(canvas[names.index("cutout")], hidden)
    return canvas


def _runs(letterboxes: Sequence[Letterbox]) -> Iterator[tuple[int, int]]:
    """Yield (first, end) of neighbours with equal borders."""
    first = 0
    for n, one in enumerate(letterboxes[1:], start=1):
        if one.borders != letterboxes[first].borders:
            yield first, n
            first = n
    yield first, len(letterboxes)


def _inside(boxes: Tensor, corners: Tensor, sizes: Tensor) -> Tensor:
    moved = (boxes - corners[..., None, :]).clamp_(min=0)
    return moved.minimum(sizes[..., None, :])


def _twice(x: int, y: int) -> tuple[int, ...]:
    return (x, y, x, y)


def _size(name: str, content: Size) -> tuple[int, ...]:
    height, width = view_size(name, content)
    return _twice(width, height)


def _corner(name: str, shape: Size, content: Size) -> tuple[int, ...]:
    height, width = view_size(name, content)
    return _twice((shape[1] - width) // 2, (shape[0] - height) // 2)
