"""Letterbox: resize an image and pad it to the network's shape, and map boxes there and back.

Sizes are (height, width) in pixels.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import cast

import cv2
import numpy as np
from numpy.typing import NDArray

from ops.boxes import Boxes, clip

Size = tuple[int, int]
Image = NDArray[np.uint8]
PAD_VALUE = 114
"""Grey of letterbox borders and of the canvas of mosaics: v7.0's, which its weights have learnt."""


@dataclass(frozen=True)
class Letterbox:
    """The place of one image in its network input.

    `source`, `resized` and `shape` are its sizes as it is, after resizing, and with its borders.
    `borders` are (top, bottom, left, right) in pixels.
    """

    source: Size
    resized: Size
    shape: Size
    borders: tuple[int, int, int, int]

    @property
    def scale_and_offset(self) -> tuple[tuple[float, float], tuple[int, int]]:
        """Scale (x, y) and offset (x, y) of the source image within the network input."""
        scale = self.resized[1] / self.source[1], self.resized[0] / self.source[0]
        return scale, (self.borders[2], self.borders[0])


def plan_letterbox(
    source_hw: Size,
    target_hw: Size,
    *,
    minimal: bool = False,
    enlarge: bool = True,
    stride: int = 32,
) -> Letterbox:
    """Plan the letterbox of an image of size `source_hw` into `target_hw`, by the rule of v7.0.

    The image keeps its aspect ratio and is centred; an odd pixel goes to the bottom or right.
    `minimal` pads only to the next multiples of `stride`; without `enlarge` a small image keeps its
    size. Sides are at least 1 pixel.
    """
    height, width = source_hw
    ratio = min(target_hw[0] / height, target_hw[1] / width)
    if not enlarge:
        ratio = min(ratio, 1.0)
    resized = (max(1, round(height * ratio)), max(1, round(width * ratio)))
    missing_y, missing_x = target_hw[0] - resized[0], target_hw[1] - resized[1]
    if minimal:
        missing_y, missing_x = missing_y % stride, missing_x % stride
    top, left = missing_y // 2, missing_x // 2
    return Letterbox(
        source=(height, width),
        resized=resized,
        shape=(resized[0] + missing_y, resized[1] + missing_x),
        borders=(top, missing_y - top, left, missing_x - left),
    )


def apply_letterbox(image: Image, plan: Letterbox) -> Image:
    """Return a new array: `image` [h, w, 3] resized bilinearly and padded to the plan's shape."""
    return _pad(resize_image(image, plan.resized), plan)


def write_rgb(resized: Image, plan: Letterbox, slot: Image) -> None:
    """Write `resized`, BGR and of the plan's size, into `slot` [h, w, 3]: in RGB, with borders."""
    (height, width), (top, bottom, left, right) = plan.shape, plan.borders
    inside = slot[top : height - bottom, left : width - right]
    # One pass: torch reverses channels ten times as slowly.
    cv2.cvtColor(resized, cv2.COLOR_BGR2RGB, dst=inside)
    for border in (slot[:top], slot[height - bottom :]):
        border[:] = PAD_VALUE
    for border in (slot[:, :left], slot[:, width - right :]):
        border[:] = PAD_VALUE


def fit_long_side(source_hw: Size, image_size: int) -> Size:
    """Return the size of an image resized to a longer side of `image_size`.

    Sides are rounded, and at least 1. v7.0 truncates them, which makes some long sides one pixel
    short and thin images vanish.
    """
    ratio = image_size / max(source_hw)
    return max(1, round(source_hw[0] * ratio)), max(1, round(source_hw[1] * ratio))


def resize_image(image: Image, size_hw: Size, *, area: bool = False) -> Image:
    """Resize `image` [h, w, 3] to (height, width); return the same array if it has that size.

    Bilinear, or with `area` the mean over each new pixel's area where the image shrinks.
    """
    height, width = image.shape[:2]
    if (height, width) == tuple(size_hw):
        return image
    shrinks = size_hw[0] < height or size_hw[1] < width
    method = cv2.INTER_AREA if area and shrinks else cv2.INTER_LINEAR
    return cast(Image, cv2.resize(image, (size_hw[1], size_hw[0]), interpolation=method))


def plan_evaluation(source_hw: Size, image_size: int, shape_hw: Size) -> Letterbox:
    """Plan v7.0's letterbox of validation: longer side to `image_size`, then into `shape_hw`.

    The second step only pads, unless the shape is too small.
    """
    inner = plan_letterbox(fit_long_side(source_hw, image_size), shape_hw, enlarge=False)
    return replace(inner, source=(source_hw[0], source_hw[1]))


def apply_evaluation(image: Image, plan: Letterbox) -> Image:
    """Apply a plan as `apply_letterbox`, but shrink by area, as v7.0 loads validation images."""
    return _pad(resize_image(image, plan.resized, area=True), plan)


def _pad(image: Image, plan: Letterbox) -> Image:
    colour = (PAD_VALUE,) * 3
    padded = cv2.copyMakeBorder(image, *plan.borders, cv2.BORDER_CONSTANT, value=colour)
    return cast(Image, padded)


def boxes_to_network(boxes: Boxes, plan: Letterbox) -> Boxes:
    """Map boxes [..., 4+] (xyxy first) from the source image to the network input, in floats.

    Exact: the true ratio of each axis and the true border, where v7.0 takes the unrounded half
    padding and is up to half a pixel off. Further columns are kept.
    """
    (scale_x, scale_y), (left, top) = plan.scale_and_offset
    moved = boxes * 1.0
    moved[..., 0:4:2] = moved[..., 0:4:2] * scale_x + left
    moved[..., 1:4:2] = moved[..., 1:4:2] * scale_y + top
    return moved


def boxes_to_original(boxes: Boxes, plan: Letterbox) -> Boxes:
    """Map boxes [..., 4+] from the network input back, clipped to the source image."""
    (scale_x, scale_y), (left, top) = plan.scale_and_offset
    moved = boxes * 1.0
    moved[..., 0:4:2] = (moved[..., 0:4:2] - left) / scale_x
    moved[..., 1:4:2] = (moved[..., 1:4:2] - top) / scale_y
    return clip(moved, plan.source)


def rectangular_shapes(
    sizes_hw: NDArray[np.integer],
    *,
    image_size: int,
    batch_size: int,
    stride: int = 32,
    pad: float = 0.5,
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Group images of like aspect ratio into batches, each in its smallest shape, as v7.0 does.

    `sizes_hw` [n, 2] are the images' sizes. Return `order` [n], the images by height / width
    (equal ratios keep their order); `batch_index` [n], the batch of each place in that order; and
    `shapes` [batches, 2], heights and widths, multiples of `stride` with room for `pad` strides
    more. No images give three empty arrays.
    """
    sizes = np.asarray(sizes_hw, dtype=np.float64).reshape(-1, 2)
    ratio = sizes[:, 0] / sizes[:, 1]
    order = ratio.argsort(kind="stable")
    batch_index = np.arange(len(sizes)) // batch_size
    first = np.arange(0, len(sizes), batch_size)
    if not len(first):
        return order, batch_index, np.zeros((0, 2), np.int64)
    lowest = np.minimum.reduceat(ratio[order], first)
    highest = np.maximum.reduceat(ratio[order], first)
    # All landscape: full width, the tallest one's height. All portrait: reversed. Mixed: square.
    height = np.where(highest < 1, highest, 1.0)
    width = np.where(lowest > 1, 1 / lowest, 1.0)
    strides = np.stack((height, width), 1) * image_size / stride + pad
    return order, batch_index, (np.ceil(strides) * stride).astype(np.int64)
