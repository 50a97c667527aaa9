"""CALD's perturbed views: changed copies of images, and where their boxes went.

Images are uint8 [b, 3, h, w], RGB, of one size, on any device. Boxes are xyxy in pixels of their
image, and may be padded with zeros; where they go in a view is a linear map of the four numbers.
Mapped boxes are in pixels of the new images, neither rounded nor outside. Arguments stay untouched.

Pixel convention: continuous coordinates, the centre of the first pixel at (0.5, 0.5).
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable
from functools import lru_cache
from pathlib import PurePath

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from ops.boxes import area
from ops.letterbox import PAD_VALUE

RESIZE_FACTOR = 0.8
ROTATION_DEGREES = 5.0
CUTOUT_TRIES = 50
CUTOUT_COUNT = 2
CUTOUT_SIDE = (0.05, 0.2)
"""Smallest and largest side of a cut-out rectangle, as a share of the image's side."""
CUTOUT_COVER = (0.1, 0.4)
"""A rectangle is accepted if the share it hides of the box it hides most lies between these."""


def flip(images: Tensor) -> Tensor:
    """Left and right exchanged."""
    return images.flip(-1)


def cutout_tries(size: tuple[int, int], generator: np.random.Generator) -> NDArray[np.float64]:
    """Draw `CUTOUT_TRIES` rectangles [tries, 4] (xyxy) in an image of size (height, width).

    All are drawn whatever is accepted, so that a tiny change of a box cannot shift what follows.
    """
    draws = generator.random((CUTOUT_TRIES, 4))
    extent = np.array([size[1], size[0]])  # width, height: the order of x, y
    low, high = CUTOUT_SIDE
    sides = np.maximum(1, np.floor((low + (high - low) * draws[:, :2]) * extent))
    corners = np.floor(draws[:, 2:] * (extent - sides + 1))
    return np.concatenate((corners, corners + sides), 1)


def accepted_tries(boxes: Tensor, tries: Tensor) -> Tensor:
    """Return the rectangles [b, count, 4] to hide of `tries` [b, tries, 4], zeros for missing ones.

    The first whose largest overlap / area of a box of `boxes` [b, k, 4] lies within `CUTOUT_COVER`;
    k is at least 1.
    """
    own = boxes.double()
    low = torch.maximum(tries[:, :, None, :2], own[:, None, :, :2])
    high = torch.minimum(tries[:, :, None, 2:], own[:, None, :, 2:])
    size = area(own)[:, None]
    cover = (high - low).clamp_(min=0).prod(-1).div_(size.masked_fill(size <= 0, 1)).amax(2)
    accepted = (cover >= CUTOUT_COVER[0]) & (cover <= CUTOUT_COVER[1])
    early = accepted * torch.arange(tries.shape[1], 0, -1, device=tries.device)
    found, places = early.topk(CUTOUT_COUNT)
    return tries.gather(1, places[..., None].expand(-1, -1, 4)) * (found > 0)[..., None]


def hide_(images: Tensor, rectangles: Tensor) -> Tensor:
    """Blacken the whole-pixel rectangles [b, count, 4] (xyxy) in images, and return these."""
    height, width = images.shape[-2:]
    pixels = torch.arange(max(height, width), device=images.device)
    inside = (pixels >= rectangles[..., :2, None]) & (pixels < rectangles[..., 2:, None])
    hidden = inside[:, :, 1, :height, None] & inside[:, :, 0, None, :width]
    return images.masked_fill_(hidden.any(1)[:, None], 0)


def cutout(images: Tensor) -> Tensor:
    """The image itself, of which `hide_` then blackens parts."""
    return images


def resize(images: Tensor) -> Tensor:
    """Bilinearly to (int(0.8 h), int(0.8 w)).

    The caller pads the result instead of enlarging it again: the network sees smaller objects.
    """
    new = view_size("resize", (images.shape[-2], images.shape[-1]))
    changed = functional.interpolate(images.float(), new, mode="bilinear", align_corners=False)
    return changed.round_().to(torch.uint8)


def view_size(name: str, size: tuple[int, int]) -> tuple[int, int]:
    """The (height, width) that the view `name` has of an image of `size` (height, width)."""
    if name != "resize":
        return size
    return max(1, int(size[0] * RESIZE_FACTOR)), max(1, int(size[1] * RESIZE_FACTOR))


def rotate(images: Tensor) -> Tensor:
    """Five degrees counter-clockwise on a canvas that holds all of it, then back to the size.

    Both steps are one bilinear warp. What turns in from outside is the letterbox's grey.
    """
    grid = _turned_grid((images.shape[-2], images.shape[-1]), images.device)
    turned = functional.grid_sample(
        images - float(PAD_VALUE), grid.expand(len(images), -1, -1, -1), align_corners=False
    )
    return turned.add_(PAD_VALUE).round_().to(torch.uint8)


@lru_cache(maxsize=8)
def _turned_grid(size: tuple[int, int], device: torch.device) -> Tensor:
    """Return where each pixel of the rotated view comes from, float32 [1, h, w, 2]."""
    height, width = size
    matrix = rotation(size, ROTATION_DEGREES)
    # From the centre, in half sizes (grid_sample's coordinates), the map is linear.
    halves = torch.tensor([width / 2, height / 2], dtype=torch.float64)
    inverse = torch.linalg.inv(matrix[:, :2]) * halves / halves[:, None]
    theta = torch.cat((inverse, torch.zeros(2, 1, dtype=torch.float64)), 1)
    theta = theta.to(device, torch.float32)[None]
    return functional.affine_grid(theta, [1, 3, height, width], align_corners=False)


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


@lru_cache(maxsize=256)
def box_map(view: str, size: tuple[int, int]) -> NDArray[np.float64]:
    """Return the map [4, 5] of boxes (x1, y1, x2, y2, 1) to those of a view of an image of `size`.

    A rotated box becomes the box around its four turned corners.
    """
    height, width = size
    new_height, new_width = view_size(view, size)
    linear, offset = np.diag([new_width / width, new_height / height]), np.zeros(2)
    if view == "flip":
        linear, offset = np.diag([-1.0, 1.0]), np.array([width, 0.0])
    elif view == "rotate":
        matrix = rotation(size, ROTATION_DEGREES).numpy()
        linear, offset = matrix[:, :2], matrix[:, 2]
    # A coordinate is least where what it grows with is least, and what it falls with largest.
    rising, falling = linear.clip(min=0), linear.clip(max=0)
    both = np.block([[rising, falling], [falling, rising]])
    return np.concatenate((both, np.tile(offset, 2)[:, None]), 1)


def map_boxes(boxes: Tensor, maps: Tensor, sizes: Tensor) -> Tensor:
    """Map boxes [b, k, 4] by float64 `maps` [..., b, 4, 5], clipped to `sizes` [..., b, 4].

    `sizes` are (width, height, width, height) of the new images. Returns float32 [..., b, k, 4].
    """
    moved = boxes.double() @ maps[..., :4].mT + maps[..., None, :, 4]
    return torch.minimum(moved.clamp_(min=0), sizes[..., None, :]).float()


def image_generator(seed: int, path: str, view: str) -> np.random.Generator:
    """The generator of one image's view: the same in any order, batch, process and folder.

    Keyed by the base name, which is an image's identity on the platform.
    """
    name = PurePath(path).name.encode("utf-8", "surrogatepass")  # names need not be UTF-8
    return np.random.default_rng([seed, zlib.crc32(name), zlib.crc32(view.encode())])


VIEWS: dict[str, Callable[[Tensor], Tensor]] = {
    "flip": flip,
    "cutout": cutout,
    "resize": resize,
    "rotate": rotate,
}
"""What makes views of whole images, by the names that the setting `views` uses."""
