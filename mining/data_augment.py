"""CALD's perturbed views: a changed copy of an image, and where its boxes went.

Every view takes a batch of images of one size (uint8 [b, 3, h, w], RGB), the
boxes of each image (float32 [n, 4], xyxy in pixels of that image, on the CPU) and one random
generator per image. It returns new images on the same device and the mapped boxes, in pixels of
the new images, neither rounded nor outside the image. The arguments stay untouched.

Pixel convention: continuous coordinates, the centre of the first pixel at (0.5, 0.5).
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Sequence
from pathlib import PurePath

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from ops.boxes import clip
from ops.letterbox import PAD_VALUE

RESIZE_FACTOR = 0.8
ROTATION_DEGREES = 5.0
CUTOUT_TRIES = 50
CUTOUT_COUNT = 2
CUTOUT_SIDE = (0.05, 0.2)
"""Smallest and largest side of a cut-out rectangle, as a share of the image's side."""
CUTOUT_COVER = (0.1, 0.4)
"""A rectangle is accepted if the share it hides of the box it hides most lies between these."""

Generators = Sequence[np.random.Generator]
Perturbation = Callable[[Tensor, Sequence[Tensor], Generators], tuple[Tensor, list[Tensor]]]


def flip(
    images: Tensor, boxes: Sequence[Tensor], generators: Generators
) -> tuple[Tensor, list[Tensor]]:
    """Left and right exchanged: x1' = width - x2, x2' = width - x1."""
    width = images.shape[-1]
    mapped = [torch.stack((width - b[:, 2], b[:, 1], width - b[:, 0], b[:, 3]), 1) for b in boxes]
    return images.flip(-1), mapped


def cutout(
    images: Tensor, boxes: Sequence[Tensor], generators: Generators
) -> tuple[Tensor, list[Tensor]]:
    """At most two black rectangles per image, each hiding part of an object; boxes stay."""
    size = (images.shape[-2], images.shape[-1])
    changed = images.clone()
    for image, own, generator in zip(changed, boxes, generators, strict=True):
        for left, top, right, bottom in cutout_rectangles(own, size, generator):
            image[:, top:bottom, left:right] = 0
    return changed, [own.clone() for own in boxes]


def cutout_rectangles(
    boxes: Tensor, size: tuple[int, int], generator: np.random.Generator
) -> list[tuple[int, int, int, int]]:
    """The rectangles (left, top, right, bottom) to hide in an image of size (height, width).

    Of `CUTOUT_TRIES` random ones the first `CUTOUT_COUNT` whose largest overlap / area of a box
    lies within `CUTOUT_COVER`. All tries are drawn whatever is accepted, so that a tiny change
    of a box cannot shift the draws that follow. No boxes [0, 4]: no rectangle.
    """
    draws = generator.random((CUTOUT_TRIES, 4))
    if len(boxes) == 0:
        return []
    extent = np.array([size[1], size[0]])  # width, height: the order of x, y
    low, high = CUTOUT_SIDE
    sides = np.maximum(1, ((low + (high - low) * draws[:, :2]) * extent).astype(np.int64))
    corners = (draws[:, 2:] * (extent - sides + 1)).astype(np.int64)
    tries = np.concatenate((corners, corners + sides), 1)

    own = boxes.detach().cpu().numpy().astype(np.float64)
    shared_low = np.maximum(tries[:, None, :2], own[None, :, :2])
    shared_high = np.minimum(tries[:, None, 2:], own[None, :, 2:])
    overlap = np.clip(shared_high - shared_low, 0, None).prod(2)
    area = np.clip(own[:, 2:] - own[:, :2], 0, None).prod(1)
    cover = np.where(area > 0, overlap / np.where(area > 0, area, 1), 0).max(1)

    accepted = np.flatnonzero((cover >= CUTOUT_COVER[0]) & (cover <= CUTOUT_COVER[1]))
    chosen = tries[accepted[:CUTOUT_COUNT]].tolist()
    return [(left, top, right, bottom) for left, top, right, bottom in chosen]


def resize(
    images: Tensor, boxes: Sequence[Tensor], generators: Generators
) -> tuple[Tensor, list[Tensor]]:
    """Bilinearly to (int(0.8 h), int(0.8 w)); boxes by the same ratios.

    The caller pads the result instead of enlarging it again: the network sees smaller objects.
    """
    height, width = images.shape[-2:]
    new = view_size("resize", (height, width))
    changed = functional.interpolate(images.float(), new, mode="bilinear", align_corners=False)
    ratios = torch.tensor([new[1] / width, new[0] / height]).repeat(2)
    return _as_pixels(changed), [own * ratios for own in boxes]


def view_size(name: str, size: tuple[int, int]) -> tuple[int, int]:
    """The (height, width) that the view `name` has of an image of `size` (height, width)."""
    if name != "resize":
        return size
    return max(1, int(size[0] * RESIZE_FACTOR)), max(1, int(size[1] * RESIZE_FACTOR))


def rotate(
    images: Tensor, boxes: Sequence[Tensor], generators: Generators
) -> tuple[Tensor, list[Tensor]]:
    """Five degrees counter-clockwise on a canvas that holds all of it, then back to the size.

    Both steps are one bilinear warp. A box becomes the box around its four turned corners,
    held inside the image. What turns in from outside is the letterbox's grey.
    """
    height, width = images.shape[-2:]
    matrix = rotation((height, width), ROTATION_DEGREES)
    # From the centre, in half sizes (grid_sample's coordinates), the map is linear.
    halves = torch.tensor([width / 2, height / 2], dtype=torch.float64)
    inverse = torch.linalg.inv(matrix[:, :2]) * halves / halves[:, None]
    theta = torch.cat((inverse, torch.zeros(2, 1, dtype=torch.float64)), 1)
    theta = theta.to(images.device, torch.float32)[None]
    grid = functional.affine_grid(theta, [1, 3, height, width], align_corners=False)
    turned = functional.grid_sample(
        images.float() - PAD_VALUE, grid.expand(len(images), -1, -1, -1), align_corners=False
    )
    mapped = [rotated_boxes(own, matrix, (height, width)) for own in boxes]
    return _as_pixels(turned + PAD_VALUE), mapped


def rotation(size: tuple[int, int], degrees: float) -> Tensor:
    """Affine map float64 [2, 3] of (x, y) for an image of size (height, width).

    Counter-clockwise as seen (y points down) about the centre; the canvas grows to hold the
    turned image and is then scaled back to the size, each axis by its own ratio. A portrait
    image is scaled as its landscape transpose is: long side by the long side's ratio.
    """
    height, width = size
    cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    canvas_width = width * abs(cosine) + height * abs(sine)
    canvas_height = height * abs(cosine) + width * abs(sine)
    turn = torch.tensor([[cosine, sine], [-sine, cosine]], dtype=torch.float64)
    scale = torch.tensor([width / canvas_width, height / canvas_height], dtype=torch.float64)
    centre = torch.tensor([width / 2, height / 2], dtype=torch.float64)
    linear = scale[:, None] * turn
    return torch.cat((linear, (centre - linear @ centre)[:, None]), 1)


def rotated_boxes(boxes: Tensor, matrix: Tensor, size: tuple[int, int]) -> Tensor:
    """Boxes [n, 4], xyxy px, around their corners after the affine `matrix` [2, 3], clipped."""
    corners = boxes[:, [0, 1, 2, 1, 2, 3, 0, 3]].double().reshape(-1, 4, 2)
    moved = corners @ matrix[:, :2].T + matrix[:, 2]
    around = torch.cat((moved.amin(1), moved.amax(1)), 1)
    return clip(around, size).to(boxes.dtype)


def image_generator(seed: int, path: str, view: str) -> np.random.Generator:
    """The generator of one image's view: the same in any order, batch, process and folder.

    Keyed by the base name, which is an image's identity on the platform.
    """
    name = PurePath(path).name.encode("utf-8", "surrogatepass")  # names need not be UTF-8
    return np.random.default_rng([seed, zlib.crc32(name), zlib.crc32(view.encode())])


def _as_pixels(images: Tensor) -> Tensor:
    return images.round().clamp(0, 255).to(torch.uint8)


PERTURBATIONS: dict[str, Perturbation] = {
    function.__name__: function for function in (flip, cutout, resize, rotate)
}
"""The views by the names that the setting `views` uses."""
