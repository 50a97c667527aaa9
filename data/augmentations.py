"""Random augmentation of training samples: sampling of parameters apart from their application.

`sample_augmentation` draws every random number of a sample into a frozen `AugmentationParams`;
the functions that then act on pixels and boxes are pure. Images are uint8 [h, w, 3] in BGR order
and boxes xyxy in pixels, unless said otherwise; sizes are (height, width). Formulas: v7.0.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from data.images import Pixels
from data.instances import Instances
from data.mosaic import (
    Floats,
    Size,
    Tile,
    mosaic_tiles,
    nine_tiles,
    place_instances,
    render,
    single_tile,
    transform_boxes,
)
from utils.environment import disable_update_checks
from utils.errors import Code, TaskError, optional_package

# Keeps a normalised centre below 1, so that it always falls into a grid cell.
_BORDER_MARGIN = 1e-3
FILTER_PROBABILITY = 0.01
_FILTERS = ("Blur", "MedianBlur", "ToGray", "CLAHE")

Layer = tuple[list[Tile], Floats]
"""Tiles on a canvas, and the matrix [3, 3] from it to the output."""
Filters = Callable[[Pixels, int], Pixels]
"""Changes the pixels of a BGR image [h, w, 3], given a seed; never where anything lies."""


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
    mosaic: float = 1.0  # probability of a mosaic of four images instead of one
    mosaic9: float = 0.0  # share of the mosaics that are made of nine images instead
    mixup: float = 0.0  # probability that a second mosaic is laid over the first
    albumentations: bool = False  # whether `PixelFilters` are applied


@dataclass(frozen=True)
class AffineParams:
    """The eight numbers of a random affine or perspective transform, in the order of sampling."""

    perspective_x: float = 0.0
    perspective_y: float = 0.0
    degrees: float = 0.0
    scale: float = 1.0
    shear_x: float = 0.0
    shear_y: float = 0.0
    translate_x: float = 0.5
    translate_y: float = 0.5


@dataclass(frozen=True)
class MosaicParams:
    """Which images are composed, and how the canvas is transformed.

    `images` are positions in the data set: one; or the four of a mosaic (top left, top right,
    bottom left, bottom right), which meet on its canvas at `centre`, (y, x) in pixels; or nine
    (the middle one, then clockwise from above it), and then `centre` is the corner where the part
    that is kept of their canvas begins.
    """

    images: tuple[int, ...]
    centre: tuple[int, int] | None
    affine: AffineParams


@dataclass(frozen=True)
class AugmentationParams(MosaicParams):
    """Everything random about one training sample.

    `colour` holds the factors of hue, saturation and brightness. With `mixup` that mosaic is laid
    over the first, which keeps `mixup_ratio` of its brightness. `filter_seed` is for the filters.
    """

    colour: tuple[float, float, float] | None
    flip_vertical: bool
    flip_horizontal: bool
    mixup: MosaicParams | None = None
    mixup_ratio: float = 1.0
    filter_seed: int | None = None

    @property
    def all_images(self) -> tuple[int, ...]:
        """All images of the sample, in the order in which `apply_augmentation` takes them."""
        return self.images + (self.mixup.images if self.mixup is not None else ())


def sample_affine(augmentation: Augmentation, generator: np.random.Generator) -> AffineParams:
    """Sample a random transform; all eight draws are always made, so that streams stay in step."""
    reaches = (
        *[(0, augmentation.perspective)] * 2,
        (0, augmentation.degrees),
        (1, augmentation.scale),
        *[(0, augmentation.shear)] * 2,
        *[(0.5, augmentation.translate)] * 2,
    )
    uniform = generator.uniform
    return AffineParams(*(float(uniform(mid - reach, mid + reach)) for mid, reach in reaches))


def sample_mosaic(
    index: int,
    candidates: npt.NDArray[np.integer],
    side: int,
    augmentation: Augmentation,
    generator: np.random.Generator,
) -> tuple[tuple[int, ...], tuple[int, int]]:
    """Sample the images and the centre of a mosaic with image `index`, as in `MosaicParams`.

    Three or eight more are drawn from `candidates` [n] with replacement, and all are shuffled, so
    that image `index` may lie anywhere.
    """
    nine = augmentation.mosaic9 > 0 and generator.random() < augmentation.mosaic9
    low, high, count = (0, side, 9) if nine else (side / 2, 2 * side - side / 2, 4)
    y, x = generator.uniform(low, high, 2)
    chosen = [index, *candidates[generator.integers(0, len(candidates), count - 1)]]
    images = tuple(int(chosen[place]) for place in generator.permutation(count))
    return images, (int(y), int(x))


def sample_augmentation(
    index: int,
    candidates: npt.NDArray[np.integer],
    image_size: int,
    augmentation: Augmentation,
    generator: np.random.Generator,
) -> AugmentationParams:
    """Sample everything random about the sample of image `index`, to be `image_size` pixels wide.

    `candidates` [n] are the images, one for each in the data set, that a mosaic may add.
    """
    images: tuple[int, ...] = (index,)
    centre = None
    if generator.random() < augmentation.mosaic:
        images, centre = sample_mosaic(index, candidates, image_size, augmentation, generator)
    affine = sample_affine(augmentation, generator)
    gains = np.array((augmentation.hsv_h, augmentation.hsv_s, augmentation.hsv_v))
    hue, saturation, brightness = generator.uniform(-1, 1, 3) * gains + 1
    vertical, horizontal = generator.random(2)
    # What v7.0 does not do by default is drawn last or not at all: the numbers above stay the same.
    mixup, ratio = None, 1.0
    if centre is not None and augmentation.mixup > 0 and generator.random() < augmentation.mixup:
        ratio = float(generator.beta(32.0, 32.0))  # near one half
        other = int(generator.integers(0, len(candidates)))
        others, middle = sample_mosaic(other, candidates, image_size, augmentation, generator)
        mixup = MosaicParams(others, middle, sample_affine(augmentation, generator))
    return AugmentationParams(
        images=images,
        centre=centre,
        affine=affine,
        colour=(float(hue), float(saturation), float(brightness)) if gains.any() else None,
        flip_vertical=bool(vertical < augmentation.flipud),
        flip_horizontal=bool(horizontal < augmentation.fliplr),
        mixup=mixup,
        mixup_ratio=ratio,
        filter_seed=int(generator.integers(2**31)) if augmentation.albumentations else None,
    )


def affine_matrix(params: AffineParams, canvas: Size, output: Size) -> Floats:
    """Return the matrix [3, 3] from canvas to output pixels: T · S · R · P · C, right to left.

    Centre on the origin, perspective, rotation (counter-clockwise) with scale, shear, translation.
    """
    height, width = canvas
    centring = np.array([[1, 0, -width / 2], [0, 1, -height / 2], [0, 0, 1]])
    perspective = np.array([[1, 0, 0], [0, 1, 0], [params.perspective_x, params.perspective_y, 1]])
    angle = math.radians(params.degrees)
    cosine, sine = params.scale * math.cos(angle), params.scale * math.sin(angle)
    rotation = np.array([[cosine, sine, 0], [-sine, cosine, 0], [0, 0, 1]])
    along_x, along_y = (math.tan(math.radians(shear)) for shear in (params.shear_x, params.shear_y))
    shear = np.array([[1, along_x, 0], [along_y, 1, 0], [0, 0, 1]])
    right, down = params.translate_x * output[1], params.translate_y * output[0]
    translation = np.array([[1, 0, right], [0, 1, down], [0, 0, 1]])
    return np.asarray(translation @ shear @ rotation @ perspective @ centring, np.float64)


def box_candidates(
    before: npt.NDArray[np.floating],
    after: npt.NDArray[np.floating],
    *,
    area_threshold: float = 0.10,
) -> npt.NDArray[np.bool_]:
    """Return which boxes [n, 4] are kept after a transform: bool [n].

    Sides must stay above 2 pixels, the area above a fraction of what it was, and the aspect ratio
    below 100. `before` are the boxes times the sampled scale.
    """
    width0, height0 = before[:, 2] - before[:, 0], before[:, 3] - before[:, 1]
    width, height = after[:, 2] - after[:, 0], after[:, 3] - after[:, 1]
    aspect = np.maximum(width / (height + 1e-16), height / (width + 1e-16))
    shares = width * height / (width0 * height0 + 1e-16)
    kept = (width > 2) & (height > 2) & (shares > area_threshold) & (aspect < 100)
    return np.asarray(kept, np.bool_)


def colour_tables(colour: tuple[float, float, float]) -> Pixels:
    """Return look-up tables uint8 [256, 3] for hue (0..179), saturation, brightness × `colour`."""
    levels = np.arange(256)[:, None] * np.array(colour)
    levels[:, 0] %= 180
    return np.asarray(np.minimum(levels, 255), np.uint8)


def shift_colours(image: Pixels, colour: tuple[float, float, float]) -> Pixels:
    """Return BGR [h, w, 3] of a BGR or BGRX image with hue, saturation, brightness × `colour`."""
    hsv = cv2.cvtColor(image, cv2.COLOR_BGR2HSV)
    shifted = cv2.LUT(hsv, colour_tables(colour)[None])
    return np.asarray(cv2.cvtColor(shifted, cv2.COLOR_HSV2BGR), np.uint8)


def to_chw_rgb(image: Pixels) -> Pixels:
    """Return contiguous RGB [3, h, w] of BGR or BGRX [h, w, 3 or 4]."""
    planes = np.empty((image.shape[2], *image.shape[:2]), np.uint8)
    cv2.split(image, [planes[2], planes[1], planes[0], *planes[3:]])
    return planes[:3]


def normalised_targets(instances: Instances, size: Size) -> npt.NDArray[np.float32]:
    """Return targets [n, 5]: class, then cx, cy, w, h as fractions of `size`, clipped to it."""
    height, width = size
    limits = (width - _BORDER_MARGIN, height - _BORDER_MARGIN) * 2
    corners = np.clip(np.asarray(instances.boxes, np.float64), 0, limits)
    targets = np.empty((len(corners), 5), np.float32)
    targets[:, 0] = instances.classes
    targets[:, 1:3] = (corners[:, :2] + corners[:, 2:]) / 2 / (width, height)
    targets[:, 3:5] = (corners[:, 2:] - corners[:, :2]) / (width, height)
    return targets


def blend(first: Pixels, second: Pixels, ratio: float) -> Pixels:
    """Return `ratio` of one image and the rest of another of its shape, cut off to whole levels."""
    # OpenCV rounds to the nearest: half a level less cuts off, but for what lies just below one.
    return np.asarray(cv2.addWeighted(first, ratio, second, 1 - ratio, -0.499), np.uint8)


def apply_augmentation(
    params: AugmentationParams,
    images: Sequence[Pixels],
    instances: Sequence[Instances],
    output_size: Size,
    *,
    filters: Filters | None = None,
) -> tuple[Pixels, npt.NDArray[np.float32]]:
    """Apply sampled parameters: RGB planes uint8 [3, h, w] and targets float32 [n, 5].

    `images` are those of `params.all_images`, resized to at most the training size, `instances`
    their objects. Targets: class, cx, cy, w, h normalised. `output_size` (height, width) is the
    square of the training size, or for a single image any size that holds it.
    """
    layers, targets = lay_out(params, [image.shape[:2] for image in images], instances, output_size)
    count = len(params.images)
    image = render(images[:count], *layers[0], output_size)
    if params.mixup is not None:
        other = render(images[count:], *layers[1], output_size)
        image = blend(image, other, params.mixup_ratio)
    if filters is not None and params.filter_seed is not None:
        image = filters(np.ascontiguousarray(image[..., :3]), params.filter_seed)
    if params.colour is not None:
        image = shift_colours(image, params.colour)
    if params.flip_vertical:
        image = np.asarray(cv2.flip(image, 0), np.uint8)
    if params.flip_horizontal:
        image = np.asarray(cv2.flip(image, 1), np.uint8)
    return to_chw_rgb(image), targets


def lay_out(
    params: AugmentationParams,
    sizes: Sequence[Sequence[int]],
    instances: Sequence[Instances],
    output_size: Size,
) -> tuple[list[Layer], npt.NDArray[np.float32]]:
    """Return where the images of a sample lie, one layer or with `mixup` two, and its targets.

    `sizes` (height, width) and `instances` are those of `params.all_images`; targets are those of
    `apply_augmentation`. Flips are in the targets, not in the layers.
    """
    count = len(params.images)
    layer, objects = _lay_out_mosaic(params, sizes[:count], instances[:count], output_size)
    layers = [layer]
    if params.mixup is not None:
        layer, more = _lay_out_mosaic(params.mixup, sizes[count:], instances[count:], output_size)
        layers.append(layer)
        objects = Instances.concatenate((objects, more))
    targets = normalised_targets(objects, output_size)
    if params.flip_vertical:
        targets[:, 2] = 1 - targets[:, 2]
    if params.flip_horizontal:
        targets[:, 1] = 1 - targets[:, 1]
    return layers, targets


def _lay_out_mosaic(
    params: MosaicParams,
    sizes: Sequence[Sequence[int]],
    instances: Sequence[Instances],
    output: Size,
) -> tuple[Layer, Instances]:
    """Return the layer of one mosaic or image, and the objects that are kept, in output pixels."""
    shapes = [(height, width) for height, width, *_ in sizes]
    if params.centre is None:
        canvas, tiles = output, [single_tile(shapes[0], output)]
    else:
        side = output[0]
        layout = nine_tiles if len(shapes) == 9 else mosaic_tiles
        canvas, tiles = (2 * side, 2 * side), layout(shapes, params.centre, side)
    matrix = affine_matrix(params.affine, canvas, output)
    placed = place_instances(instances, tiles, canvas)
    moved = transform_boxes(placed.boxes, matrix, output)
    kept = box_candidates(placed.boxes * params.affine.scale, moved)
    return (tiles, matrix), placed.with_boxes(moved).take(kept)


class PixelFilters:
    """The filters that v7.0 takes from the optional package albumentations, seeded per sample.

    Blur, median blur, grey and CLAHE, each with probability 0.01; v7.0 names three more with
    probability 0. None moves anything, so boxes stay. TaskError(CONFIG) where the package is
    missing or too old.
    """

    def __init__(self) -> None:
        disable_update_checks()
        package = optional_package("albumentations", purpose="the setting albumentations")
        if not hasattr(package.Compose, "set_random_state"):
            raise TaskError(
                Code.CONFIG,
                f"the setting albumentations needs albumentations>=2.0, found "
                f"{package.__version__}: install a newer one, or set albumentations to false.",
            )
        filters = [getattr(package, name)(p=FILTER_PROBABILITY) for name in _FILTERS]
        self._filters = package.Compose(filters)

    def __call__(self, image: Pixels, seed: int) -> Pixels:
        """Return a BGR image [h, w, 3] after the filters; the same for the same seed."""
        # One stream for all: the package's own way to seed gives each filter the same numbers, so
        # that all of them would act on the same samples.
        self._filters.set_random_state(np.random.default_rng(seed), random.Random(seed))
        return np.asarray(self._filters(image=image)["image"], np.uint8)
