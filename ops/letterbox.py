"""Resize an image and pad it to the network's shape, and bring boxes there and back.

Sizes are (height, width), ratios and paddings (x, y) as in YOLOv5 v7.0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import cv2
import numpy as np
from numpy.typing import NDArray

from ops.boxes import Boxes, clip

Size = tuple[int, int]
Image = NDArray[np.uint8]
PAD_VALUE = 114  # the grey that v7.0 pads with, and so the one its weights were trained on


@dataclass(frozen=True)
class Letterbox:
    """Where one image lies in its network input; all in pixels.

    `source`, `resized` and `shape` are sizes (height, width) of the image as it is, after
    resizing, and with its borders. `borders` are (top, bottom, left, right). `ratio` (x, y) and
    `padding` (x, y) are the figures v7.0 reports: the ratio before sizes are rounded, and half
    the missing pixels, which may end in .5.
    """

    source: Size
    resized: Size
    shape: Size
    ratio: tuple[float, float]
    padding: tuple[float, float]
    borders: tuple[int, int, int, int]


def plan_letterbox(
    source_hw: Size,
    target_hw: Size,
    *,
    minimal: bool = False,
    stretch: bool = False,
    enlarge: bool = True,
    stride: int = 32,
) -> Letterbox:
    """How an image of size `source_hw` is brought into `target_hw`, by the rule of v7.0.

    It keeps its aspect ratio and lies in the middle; an odd pixel goes to the bottom or right.
    `minimal` pads only to the next multiples of `stride`; `stretch` (where not `minimal`) gives
    up the aspect ratio instead of padding; without `enlarge` a small image keeps its size.
    No side becomes less than 1 pixel.
    """
    height, width = source_hw
    ratio = min(target_hw[0] / height, target_hw[1] / width)
    if not enlarge:
        ratio = min(ratio, 1.0)
    ratios = (ratio, ratio)
    resized = (max(1, round(height * ratio)), max(1, round(width * ratio)))
    missing_y, missing_x = target_hw[0] - resized[0], target_hw[1] - resized[1]
    if minimal:
        missing_y, missing_x = missing_y % stride, missing_x % stride
    elif stretch:
        missing_y = missing_x = 0
        resized = (target_hw[0], target_hw[1])
        ratios = (target_hw[1] / width, target_hw[0] / height)
    top, left = missing_y // 2, missing_x // 2
    return Letterbox(
        source=(height, width),
        resized=resized,
        shape=(resized[0] + missing_y, resized[1] + missing_x),
        ratio=ratios,
        padding=(missing_x / 2, missing_y / 2),
        borders=(top, missing_y - top, left, missing_x - left),
    )


def apply_letterbox(image: Image, plan: Letterbox, *, value: int = PAD_VALUE) -> Image:
    """`image` [h, w, 3] of the plan's source size, resized bilinearly and padded with `value`.

    Gives a new array of the plan's shape; `image` is not changed.
    """
    return _pad(resize_image(image, plan.resized), plan, value)


def fit_long_side(source_hw: Size, image_size: int, *, truncate: bool = False) -> Size:
    """Size (height, width) of an image whose longer side was brought to `image_size`.

    Sides are rounded, and at least 1. v7.0 cuts them off instead, which makes some long sides one
    pixel short and thin images vanish; `truncate` does that too, for comparison with its results.
    """
    ratio = image_size / max(source_hw)
    whole = int if truncate else round
    return max(1, whole(source_hw[0] * ratio)), max(1, whole(source_hw[1] * ratio))


def resize_image(image: Image, size_hw: Size, *, area: bool = False) -> Image:
    """`image` [h, w, 3] at size (height, width); the very same array if it has that size.

    Bilinear, or with `area` the mean over each new pixel's area where the image shrinks.
    """
    height, width = image.shape[:2]
    if (height, width) == tuple(size_hw):
        return image
    shrinks = size_hw[0] < height or size_hw[1] < width
    method = cv2.INTER_AREA if area and shrinks else cv2.INTER_LINEAR
    return cast(Image, cv2.resize(image, (size_hw[1], size_hw[0]), interpolation=method))


def plan_evaluation(
    source_hw: Size, image_size: int, shape_hw: Size, *, truncate: bool = False
) -> Letterbox:
    """How v7.0's validation places an image: longer side to `image_size`, then into `shape_hw`.

    The second step only pads, unless the shape is too small. `truncate`: see `fit_long_side`.
    """
    inner = plan_letterbox(
        fit_long_side(source_hw, image_size, truncate=truncate), shape_hw, enlarge=False
    )
    height, width = source_hw
    return Letterbox(
        source=(height, width),
        resized=inner.resized,
        shape=inner.shape,
        ratio=(inner.resized[1] / width, inner.resized[0] / height),
        padding=inner.padding,
        borders=inner.borders,
    )


def apply_evaluation(image: Image, plan: Letterbox, *, value: int = PAD_VALUE) -> Image:
    """As `apply_letterbox`, but shrinking by area, as v7.0 loads its validation images."""
    return _pad(resize_image(image, plan.resized, area=True), plan, value)


def _pad(image: Image, plan: Letterbox, value: int) -> Image:
    """A new array with the borders of the plan around `image`."""
    colour = (value, value, value)
    padded = cv2.copyMakeBorder(image, *plan.borders, cv2.BORDER_CONSTANT, value=colour)
    return cast(Image, padded)


def boxes_to_network(boxes: Boxes, plan: Letterbox) -> Boxes:
    """Boxes [..., 4+] (xyxy first) from pixels of the source image to those of the network input.

    Exact: the true ratio of each axis and the true border, where v7.0 takes the unrounded half
    padding and is up to half a pixel off. Further columns are kept; the result is float.
    """
    (scale_x, scale_y), (left, top) = _placement(plan)
    moved = boxes * 1.0
    moved[..., 0:4:2] = moved[..., 0:4:2] * scale_x + left
    moved[..., 1:4:2] = moved[..., 1:4:2] * scale_y + top
    return moved


def boxes_to_original(boxes: Boxes, plan: Letterbox) -> Boxes:
    """The way back of `boxes_to_network`, clipped to the source image. Further columns are kept."""
    scales, border = _placement(plan)
    return clip(_undo(boxes, scales, border), plan.source)


def scale_boxes(
    boxes: Boxes,
    from_hw: Sequence[float],
    to_hw: Sequence[float],
    ratio_pad: tuple[Sequence[float], Sequence[float]] | None = None,
) -> Boxes:
    """Boxes [..., 4+] from a letterboxed image of size `from_hw` to its source of size `to_hw`.

    This is v7.0's rule for when no plan is known: one ratio for both axes, the first of
    `ratio_pad[0]`, and the padding (x, y) in `ratio_pad[1]`; without `ratio_pad` those of a
    letterbox that was not rounded. Clipped; a new array; further columns are kept.
    """
    if ratio_pad is not None:
        ratio, (pad_x, pad_y) = ratio_pad[0][0], ratio_pad[1]
    else:
        ratio = min(from_hw[0] / to_hw[0], from_hw[1] / to_hw[1])
        pad_x, pad_y = (from_hw[1] - to_hw[1] * ratio) / 2, (from_hw[0] - to_hw[0] * ratio) / 2
    return clip(_undo(boxes, (ratio, ratio), (pad_x, pad_y)), to_hw)


def _placement(plan: Letterbox) -> tuple[tuple[float, float], tuple[int, int]]:
    """Scale (x, y) and offset (x, y) of the source image within the network input."""
    scale_x, scale_y = plan.resized[1] / plan.source[1], plan.resized[0] / plan.source[0]
    return (scale_x, scale_y), (plan.borders[2], plan.borders[0])


def _undo(boxes: Boxes, scales: tuple[float, float], offset: tuple[float, float]) -> Boxes:
    """Boxes with the offset (x, y) taken off and divided by the scales (x, y); a float copy."""
    moved = boxes * 1.0
    moved[..., 0:4:2] = (moved[..., 0:4:2] - offset[0]) / scales[0]
    moved[..., 1:4:2] = (moved[..., 1:4:2] - offset[1]) / scales[1]
    return moved


def rectangular_shapes(
    sizes_hw: NDArray[np.integer],
    *,
    image_size: int,
    batch_size: int,
    stride: int = 32,
    pad: float = 0.5,
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Batches of like shapes: images sorted by height / width, each batch in its smallest frame.

    `sizes_hw` [n, 2] are the images' sizes. Gives `order` [n], the images in the order they are
    to be read (equal ratios keep theirs); `batch_index` [n], the batch of each place in that
    order; and `shapes` [batches, 2], heights and widths, multiples of `stride` that leave room
    for `pad` strides more. No images give three empty arrays. The rule is v7.0's.
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
    # All lying: full width, the tallest one's height. All standing: the other way. Mixed: square.
    height = np.where(highest < 1, highest, 1.0)
    width = np.where(lowest > 1, 1 / lowest, 1.0)
    frames = np.stack((height, width), 1) * image_size / stride + pad
    return order, batch_index, (np.ceil(frames) * stride).astype(np.int64)
