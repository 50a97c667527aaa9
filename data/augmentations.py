"""Random changes of a training sample: what is drawn is separate from what is done with it.

Every random number is drawn first and kept in a frozen data class; the functions that then act on
pixels and boxes are pure. Pictures are uint8 [h, w, 3] in BGR order and boxes xyxy in pixels,
unless said otherwise; sizes are (height, width). Formulas: YOLOv5 v7.0's published behaviour.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from data.images import Pixels
from data.mosaic import (
    Floats,
    Size,
    mosaic_tiles,
    nine_tiles,
    render,
    single_tile,
    transform_boxes,
)

AREA_THRESHOLD = 0.10
SIDE_THRESHOLD = 2.0
ASPECT_THRESHOLD = 100.0
# Keeps a normalised centre below 1, so that it always falls into a grid cell.
_BORDER_MARGIN = 1e-3
# Both parameters of the beta distribution that the shares of a mixture come from: near one half.
MIXUP_BETA = 32.0

Filters = Callable[[Pixels, int], Pixels]
"""Changes the pixels of a BGR picture [h, w, 3], given a seed; never where anything lies."""


@dataclass(frozen=True)
class Augmentation:
    """How strong each random change may be; the defaults are v7.0's recipe for small models."""

    hsv_h: float = 0.015  # largest relative change of hue
    hsv_s: float = 0.7  # largest relative change of saturation
    hsv_v: float = 0.4  # largest relative change of brightness
    degrees: float = 0.0  # largest rotation either way, degrees
    translate: float = 0.1  # largest shift either way, fraction of the output side
    scale: float = 0.5  # the scale factor lies in 1 - scale ... 1 + scale
    shear: float = 0.0  # largest shear angle either way, degrees
    perspective: float = 0.0  # largest perspective coefficient, 1 / pixel
    flipud: float = 0.0  # probability of an upside-down flip
    fliplr: float = 0.5  # probability of a left-right flip
    mosaic: float = 1.0  # probability of a mosaic of four pictures instead of one
    mosaic9: float = 0.0  # share of the mosaics that are made of nine pictures instead
    mixup: float = 0.0  # probability that a second mosaic is laid over the first
    albumentations: bool = False  # whether the filters of data/pixel_filters.py are used


@dataclass(frozen=True)
class AffineDraw:
    """The eight numbers of one random view, in the order in which they are drawn."""

    perspective_x: float = 0.0
    perspective_y: float = 0.0
    degrees: float = 0.0
    scale: float = 1.0
    shear_x: float = 0.0
    shear_y: float = 0.0
    translate_x: float = 0.5
    translate_y: float = 0.5


@dataclass(frozen=True)
class View:
    """Which pictures are seen together, and how.

    `pictures` are positions in the data set: one; or the four of a mosaic (top left, top right,
    bottom left, bottom right), which meet on its canvas at `centre`, (y, x) in pixels; or nine
    (the middle one, then clockwise from above it), and then `centre` is the corner where the part
    that is kept of their canvas begins.
    """

    pictures: tuple[int, ...]
    centre: tuple[int, int] | None
    affine: AffineDraw


@dataclass(frozen=True)
class AugmentationParams(View):
    """Everything random about one training sample.

    `colour` holds the factors of hue, saturation and brightness. With `mixed` that view is laid
    over the first, which keeps the `share` of its brightness. `filter_seed` is for the filters.
    """

    colour: tuple[float, float, float] | None
    flip_vertical: bool
    flip_horizontal: bool
    mixed: View | None = None
    share: float = 1.0
    filter_seed: int | None = None

    @property
    def needed(self) -> tuple[int, ...]:
        """All pictures of the sample, in the order in which `apply_sample` takes them."""
        return self.pictures + (self.mixed.pictures if self.mixed is not None else ())


def draw_affine(augmentation: Augmentation, generator: np.random.Generator) -> AffineDraw:
    """Draw a random view; all eight draws are always made, so that streams stay in step."""
    limits = augmentation

    def around(middle: float, reach: float) -> float:
        return float(generator.uniform(middle - reach, middle + reach))

    return AffineDraw(
        perspective_x=around(0, limits.perspective),
        perspective_y=around(0, limits.perspective),
        degrees=around(0, limits.degrees),
        scale=around(1, limits.scale),
        shear_x=around(0, limits.shear),
        shear_y=around(0, limits.shear),
        translate_x=around(0.5, limits.translate),
        translate_y=around(0.5, limits.translate),
    )


def draw_mosaic(
    index: int,
    pool: npt.NDArray[np.integer],
    side: int,
    augmentation: Augmentation,
    generator: np.random.Generator,
) -> tuple[tuple[int, ...], tuple[int, int]]:
    """The pictures and the centre of a mosaic with picture `index`, as in `View`.

    Three or eight more are drawn from `pool` with replacement, and all are shuffled, so that the
    one asked for may lie anywhere.
    """
    nine = augmentation.mosaic9 > 0 and generator.random() < augmentation.mosaic9
    low, high, count = (0, side, 9) if nine else (side / 2, 2 * side - side / 2, 4)
    y, x = generator.uniform(low, high, 2)
    mates = [index, *pool[generator.integers(0, len(pool), count - 1)]]
    pictures = tuple(int(mates[place]) for place in generator.permutation(count))
    return pictures, (int(y), int(x))


def draw_sample(
    index: int,
    pool: npt.NDArray[np.integer],
    side: int,
    augmentation: Augmentation,
    generator: np.random.Generator,
) -> AugmentationParams:
    """Draw everything for the sample of picture `index`, to be `side` pixels wide.

    `pool` [n] are the pictures, one for each in the data set, that a mosaic may add.
    """
    pictures: tuple[int, ...] = (index,)
    centre = None
    if generator.random() < augmentation.mosaic:
        pictures, centre = draw_mosaic(index, pool, side, augmentation, generator)
    affine = draw_affine(augmentation, generator)
    gains = np.array((augmentation.hsv_h, augmentation.hsv_s, augmentation.hsv_v))
    hue, saturation, brightness = generator.uniform(-1, 1, 3) * gains + 1
    vertical, horizontal = generator.random(2)
    # What v7.0 does not do by default is drawn last or not at all: the numbers above stay the same.
    mixed, share = None, 1.0
    if centre is not None and augmentation.mixup > 0 and generator.random() < augmentation.mixup:
        share = float(generator.beta(MIXUP_BETA, MIXUP_BETA))
        other = int(generator.integers(0, len(pool)))
        mates, middle = draw_mosaic(other, pool, side, augmentation, generator)
        mixed = View(mates, middle, draw_affine(augmentation, generator))
    return AugmentationParams(
        pictures=pictures,
        centre=centre,
        affine=affine,
        colour=(float(hue), float(saturation), float(brightness)) if gains.any() else None,
        flip_vertical=bool(vertical < augmentation.flipud),
        flip_horizontal=bool(horizontal < augmentation.fliplr),
        mixed=mixed,
        share=share,
        filter_seed=int(generator.integers(2**31)) if augmentation.albumentations else None,
    )


def affine_matrix(draw: AffineDraw, canvas: Size, output: Size) -> Floats:
    """Matrix [3, 3] that takes canvas pixels to output pixels: T · S · R · P · C, right to left.

    Centre on the origin, perspective, rotation (counter-clockwise) with scale, shear, translation.
    """
    height, width = canvas
    centring = np.array([[1, 0, -width / 2], [0, 1, -height / 2], [0, 0, 1]])
    perspective = np.array([[1, 0, 0], [0, 1, 0], [draw.perspective_x, draw.perspective_y, 1]])
    angle = math.radians(draw.degrees)
    cosine, sine = draw.scale * math.cos(angle), draw.scale * math.sin(angle)
    rotation = np.array([[cosine, sine, 0], [-sine, cosine, 0], [0, 0, 1]])
    along_x, along_y = (math.tan(math.radians(shear)) for shear in (draw.shear_x, draw.shear_y))
    shear = np.array([[1, along_x, 0], [along_y, 1, 0], [0, 0, 1]])
    right, down = draw.translate_x * output[1], draw.translate_y * output[0]
    translation = np.array([[1, 0, right], [0, 1, down], [0, 0, 1]])
    return translation @ shear @ rotation @ perspective @ centring


def box_candidates(
    before: npt.NDArray[np.floating],
    after: npt.NDArray[np.floating],
    *,
    area_threshold: float = AREA_THRESHOLD,
) -> npt.NDArray[np.bool_]:
    """Whether each box [n, 4] is still worth learning: bool [n].

    Its sides must stay above 2 pixels, its area above a fraction of what it was, and its aspect
    ratio below 100. `before` are the boxes times the drawn scale.
    """
    width0, height0 = before[:, 2] - before[:, 0], before[:, 3] - before[:, 1]
    width, height = after[:, 2] - after[:, 0], after[:, 3] - after[:, 1]
    aspect = np.maximum(width / (height + 1e-16), height / (width + 1e-16))
    return (
        (width > SIDE_THRESHOLD)
        & (height > SIDE_THRESHOLD)
        & (width * height / (width0 * height0 + 1e-16) > area_threshold)
        & (aspect < ASPECT_THRESHOLD)
    )


def colour_tables(colour: tuple[float, float, float]) -> Pixels:
    """Look-up tables uint8 [256, 3] for hue (0..179), saturation and brightness times `colour`."""
    levels = np.arange(256)[:, None] * np.array(colour)
    levels[:, 0] %= 180
    return np.minimum(levels, 255).astype(np.uint8)


def shift_colours(image: Pixels, colour: tuple[float, float, float]) -> Pixels:
    """BGR [h, w, 3] of a BGR or BGRX image, with its hue, saturation and brightness multiplied."""
    hsv = cv2.cvtColor(image, cv2.COLOR_BGR2HSV)
    shifted = cv2.LUT(hsv, colour_tables(colour)[None])
    return np.asarray(cv2.cvtColor(shifted, cv2.COLOR_HSV2BGR), np.uint8)


def to_chw_rgb(image: Pixels) -> Pixels:
    """BGR or BGRX [h, w, 3 or 4] to contiguous RGB [3, h, w]."""
    planes = np.empty((image.shape[2], *image.shape[:2]), np.uint8)
    cv2.split(image, [planes[2], planes[1], planes[0], *planes[3:]])
    return planes[:3]


def normalised_targets(
    boxes: npt.NDArray[np.floating], classes: npt.NDArray[np.integer], size: Size
) -> npt.NDArray[np.float32]:
    """Targets [n, 5]: class, then cx, cy, w, h as fractions of `size`, clipped to the image."""
    height, width = size
    limits = (width - _BORDER_MARGIN, height - _BORDER_MARGIN) * 2
    corners = np.clip(np.asarray(boxes, np.float64), 0, limits)
    targets = np.empty((len(corners), 5), np.float32)
    targets[:, 0] = classes
    targets[:, 1:3] = (corners[:, :2] + corners[:, 2:]) / 2 / (width, height)
    targets[:, 3:5] = (corners[:, 2:] - corners[:, :2]) / (width, height)
    return targets


def blend(first: Pixels, second: Pixels, share: float) -> Pixels:
    """`share` of one picture and the rest of another of the same shape, cut off to whole levels."""
    # OpenCV rounds to the nearest: half a level less cuts off, but for what lies just below one.
    return np.asarray(cv2.addWeighted(first, share, second, 1 - share, -0.499), np.uint8)


def apply_sample(
    draw: AugmentationParams,
    pictures: Sequence[Pixels],
    boxes: Sequence[npt.NDArray[np.floating]],
    classes: Sequence[npt.NDArray[np.integer]],
    side: int,
    *,
    frame: Size | None = None,
    filters: Filters | None = None,
) -> tuple[Pixels, npt.NDArray[np.float32]]:
    """Carry out a draw: RGB planes uint8 [3, side, side] and targets float32 [n, 5].

    `pictures` are those that the draw needs, in its order, resized to at most `side` pixels;
    `boxes` [k, 4] and `classes` [k] belong to them. Targets: class, cx, cy, w, h normalised.
    `frame` is the size of a sample of one picture that is to be no square; it must hold it.
    """
    output = frame or (side, side)
    own = slice(len(draw.pictures))
    image, moved, labels = _apply_view(draw, pictures[own], boxes[own], classes[own], output)
    if draw.mixed is not None:
        rest = slice(len(draw.pictures), None)
        over = _apply_view(draw.mixed, pictures[rest], boxes[rest], classes[rest], output)
        image = blend(image, over[0], draw.share)
        moved, labels = np.concatenate((moved, over[1])), np.concatenate((labels, over[2]))
    targets = normalised_targets(moved, labels, output)

    if filters is not None and draw.filter_seed is not None:
        image = filters(np.ascontiguousarray(image[..., :3]), draw.filter_seed)
    if draw.colour is not None:
        image = shift_colours(image, draw.colour)
    if draw.flip_vertical:
        image = np.asarray(cv2.flip(image, 0), np.uint8)
        targets[:, 2] = 1 - targets[:, 2]
    if draw.flip_horizontal:
        image = np.asarray(cv2.flip(image, 1), np.uint8)
        targets[:, 1] = 1 - targets[:, 1]
    return to_chw_rgb(image), targets


def _apply_view(
    view: View,
    pictures: Sequence[Pixels],
    boxes: Sequence[npt.NDArray[np.floating]],
    classes: Sequence[npt.NDArray[np.integer]],
    output: Size,
) -> tuple[Pixels, Floats, npt.NDArray[np.integer]]:
    """BGRX [*output, 4], the boxes [n, 4] that are still worth learning there, their classes."""
    sizes = [(picture.shape[0], picture.shape[1]) for picture in pictures]
    if view.centre is None:
        canvas, tiles = output, [single_tile(sizes[0], output)]
    else:
        side = output[0]
        lay = nine_tiles if len(sizes) == 9 else mosaic_tiles
        canvas, tiles = (2 * side, 2 * side), lay(sizes, view.centre, side)
    matrix = affine_matrix(view.affine, canvas, output)
    image = render(pictures, tiles, matrix, output)

    placed = np.concatenate(
        [
            np.asarray(own, np.float64).reshape(-1, 4) + tile.offset * 2
            for own, tile in zip(boxes, tiles, strict=True)
        ]
    ).clip(0, (canvas[1], canvas[0]) * 2)
    moved = transform_boxes(placed, matrix, output)
    kept = box_candidates(placed * view.affine.scale, moved)
    return image, moved[kept], np.concatenate(classes)[kept]
