"""Samples are spread as the specification's plain procedure spreads them: boxes and pixels.

The procedure is written out below as the specification of the data tells it: the whole canvas of
twice the size, one box at a time, random numbers of another kind. Some hundred samples of either
way are compared by the distance of their distributions.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache

import cv2
import numpy as np
import pytest

from data.augmentations import Augmentation, apply_augmentation, sample_augmentation
from data.instances import Instances
from utils.seeding import numpy_generator

SIDE = 64
SAMPLES = 600
GREY = 114

Images = list[tuple[np.ndarray, np.ndarray, np.ndarray]]
"""Of every image its pixels [h, w, 3] in BGR, its boxes xyxy [k, 4] in pixels, their classes."""
Sample = tuple[np.ndarray, list[tuple[float, ...]]]
"""An image uint8 [3, side, side] in RGB, and (class, x1, y1, x2, y2) of its boxes in pixels."""


def images() -> Images:
    """Ten images of several shapes with one to six boxes, lopsided so that flips are seen."""
    generator = np.random.default_rng(3)
    made = []
    for number in range(10):
        short = int(generator.integers(24, SIDE + 1))
        height, width = (SIDE, short) if number % 2 else (short, SIDE)
        across = np.linspace(90 + 10 * number, 250, width)[None, :, None]
        slope = across - np.linspace(0, 80, height)[:, None, None]
        tint = generator.uniform(0.3, 1.0, 3)
        noise = generator.normal(0, 6, (height, width, 3))
        source = (slope * tint + noise).clip(0, 255).astype(np.uint8)
        count = int(generator.integers(1, 7))
        start = generator.uniform(0, (0.5 * width, 0.7 * height), (count, 2))
        size = generator.uniform(2, (0.5 * width, 0.3 * height + 2), (count, 2))
        boxes = np.concatenate((start, start + size), 1).clip(0, (width, height) * 2)
        made.append((source, boxes, generator.integers(0, 3, count)))
    return made


def plain_sample(
    asked: int,
    data: Images,
    recipe: Augmentation,
    draws: random.Random,
    numbers: np.random.RandomState,
) -> Sample:
    """One training sample by the letter of the specification, slowly."""
    if draws.random() < recipe.mosaic:
        canvas, boxes = plain_mosaic(asked, data, draws)
        border = -(SIDE // 2)
    else:
        canvas, boxes = plain_letterbox(*data[asked])
        border = 0
    image, boxes = plain_perspective(canvas, boxes, border, recipe, draws)

    gains = numbers.uniform(-1, 1, 3) * (recipe.hsv_h, recipe.hsv_s, recipe.hsv_v) + 1
    hue, saturation, value = cv2.split(cv2.cvtColor(image, cv2.COLOR_BGR2HSV))
    levels = np.arange(256)
    hue = ((levels * gains[0]) % 180).astype(np.uint8)[hue]
    saturation = np.clip(levels * gains[1], 0, 255).astype(np.uint8)[saturation]
    value = np.clip(levels * gains[2], 0, 255).astype(np.uint8)[value]
    image = cv2.cvtColor(cv2.merge((hue, saturation, value)), cv2.COLOR_HSV2BGR)

    if draws.random() < recipe.flipud:
        image = image[::-1]
        boxes = [(c, x1, SIDE - y2, x2, SIDE - y1) for c, x1, y1, x2, y2 in boxes]
    if draws.random() < recipe.fliplr:
        image = image[:, ::-1]
        boxes = [(c, SIDE - x2, y1, SIDE - x1, y2) for c, x1, y1, x2, y2 in boxes]
    return image[..., ::-1].transpose(2, 0, 1), boxes


def plain_mosaic(asked: int, data: Images, draws: random.Random) -> Sample:
    """Four images pasted on a canvas of twice the side, and their boxes clipped to it."""
    centre_y, centre_x = (int(draws.uniform(SIDE / 2, 2 * SIDE - SIDE / 2)) for _ in range(2))
    order = [asked, *draws.choices(range(len(data)), k=3)]
    draws.shuffle(order)
    whole = 2 * SIDE
    canvas = np.full((whole, whole, 3), GREY, np.uint8)
    boxes = []
    for tile, number in enumerate(order):
        source, own, classes = data[number]
        height, width = source.shape[:2]
        if tile in (0, 2):  # to the left of the centre
            x1, x2 = max(centre_x - width, 0), centre_x
            left = width - (x2 - x1)
        else:
            x1, x2, left = centre_x, min(centre_x + width, whole), 0
        if tile in (0, 1):  # above the centre
            y1, y2 = max(centre_y - height, 0), centre_y
            top = height - (y2 - y1)
        else:
            y1, y2, top = centre_y, min(centre_y + height, whole), 0
        canvas[y1:y2, x1:x2] = source[top : top + y2 - y1, left : left + x2 - x1]
        for label, box in zip(classes, own, strict=True):
            moved = box + np.array((x1 - left, y1 - top) * 2)
            boxes.append((int(label), *np.clip(moved, 0, whole)))
    return canvas, boxes


def plain_letterbox(source: np.ndarray, own: np.ndarray, classes: np.ndarray) -> Sample:
    """One image, whose longer side is that of the sample, between two grey bars."""
    height, width = source.shape[:2]
    top, left = round((SIDE - height) / 2 - 0.1), round((SIDE - width) / 2 - 0.1)
    canvas = np.full((SIDE, SIDE, 3), GREY, np.uint8)
    canvas[top : top + height, left : left + width] = source
    shift = (left, top, left, top)
    return canvas, [(int(c), *(box + shift)) for c, box in zip(classes, own, strict=True)]


def plain_perspective(
    canvas: np.ndarray,
    boxes: list[tuple[float, ...]],
    border: int,
    recipe: Augmentation,
    draws: random.Random,
) -> Sample:
    """The random view: M = T S R P C on every pixel of the canvas and every corner of a box."""
    height, width = canvas.shape[:2]
    out_height, out_width = height + 2 * border, width + 2 * border
    c, p, r, s, t = (np.eye(3) for _ in range(5))
    c[0, 2], c[1, 2] = -width / 2, -height / 2
    p[2, 0] = draws.uniform(-recipe.perspective, recipe.perspective)
    p[2, 1] = draws.uniform(-recipe.perspective, recipe.perspective)
    angle = math.radians(draws.uniform(-recipe.degrees, recipe.degrees))
    scale = draws.uniform(1 - recipe.scale, 1 + recipe.scale)
    r[0, :2] = scale * math.cos(angle), scale * math.sin(angle)
    r[1, :2] = -scale * math.sin(angle), scale * math.cos(angle)
    s[0, 1] = math.tan(math.radians(draws.uniform(-recipe.shear, recipe.shear)))
    s[1, 0] = math.tan(math.radians(draws.uniform(-recipe.shear, recipe.shear)))
    t[0, 2] = draws.uniform(0.5 - recipe.translate, 0.5 + recipe.translate) * out_width
    t[1, 2] = draws.uniform(0.5 - recipe.translate, 0.5 + recipe.translate) * out_height
    m = t @ s @ r @ p @ c
    image = cv2.warpPerspective(canvas, m, (out_width, out_height), borderValue=(GREY,) * 3)
    kept = []
    for label, x1, y1, x2, y2 in boxes:
        corners = [m @ (x, y, 1) for x, y in ((x1, y1), (x2, y1), (x2, y2), (x1, y2))]
        xs = np.clip([corner[0] / corner[2] for corner in corners], 0, out_width)
        ys = np.clip([corner[1] / corner[2] for corner in corners], 0, out_height)
        new_width, new_height = xs.max() - xs.min(), ys.max() - ys.min()
        old_area = (x2 - x1) * scale * (y2 - y1) * scale
        if new_width <= 2 or new_height <= 2:
            continue
        ratio = max(new_width / new_height, new_height / new_width)
        if new_width * new_height / (old_area + 1e-16) > 0.1 and ratio < 100:
            kept.append((label, xs.min(), ys.min(), xs.max(), ys.max()))
    return image, kept


def plain_samples(data: Images, recipe: Augmentation) -> Iterator[Sample]:
    draws, numbers = random.Random(7), np.random.RandomState(7)
    for number in range(SAMPLES):
        yield plain_sample(number % len(data), data, recipe, draws, numbers)


def our_samples(data: Images, recipe: Augmentation) -> Iterator[Sample]:
    for number in range(SAMPLES):
        generator = numpy_generator(0, number // len(data), number % len(data))
        draw = sample_augmentation(
            number % len(data), np.arange(len(data)), SIDE, recipe, generator
        )
        own = [data[position] for position in draw.all_images]
        image, targets = apply_augmentation(
            draw,
            [source for source, _, _ in own],
            [Instances(boxes, classes) for _, boxes, classes in own],
            (SIDE, SIDE),
        )
        centres, halves = targets[:, 1:3] * SIDE, targets[:, 3:5] * SIDE / 2
        corners = np.concatenate((centres - halves, centres + halves), 1)
        yield image, [(int(c), *box) for c, box in zip(targets[:, 0], corners, strict=True)]


def spread(samples: Iterator[Sample]) -> dict[str, np.ndarray]:
    """What is compared, as long lists of numbers: of boxes in pixels, of pixels in levels."""
    images, boxes, counts = [], [], []
    for image, own in samples:
        images.append(image)
        boxes.extend(own)
        counts.append(len(own))
    rows, pixels = np.array(boxes), np.stack(images)
    columns, lines = pixels.mean((1, 2)), pixels.mean((1, 3))
    half = SIDE // 2
    return {
        "boxes of a sample": np.array(counts),
        "class": rows[:, 0],
        "box width": rows[:, 3] - rows[:, 1],
        "box height": rows[:, 4] - rows[:, 2],
        "box centre x": (rows[:, 1] + rows[:, 3]) / 2,
        "box centre y": (rows[:, 2] + rows[:, 4]) / 2,
        **{
            f"pixels {name}": pixels[:, place]
            for place, name in enumerate(("red", "green", "blue"))
        },
        "pixels left": pixels[..., : SIDE // 4],
        "pixels right": pixels[..., -SIDE // 4 :],
        "mean of a sample": pixels.mean((1, 2, 3)),
        "deviation of a sample": pixels.std((1, 2, 3)),
        "saturation of a sample": (pixels.max(1) - pixels.min(1)).mean((1, 2)),
        "left less right": columns[:, :half].mean(1) - columns[:, half:].mean(1),
        "upper less lower": lines[:, :half].mean(1) - lines[:, half:].mean(1),
        # Smooth and rough: what interpolation leaves of the noise between neighbours.
        "steps": np.abs(np.diff(pixels.astype(np.int16), axis=3)),
    }


def distance(first: np.ndarray, second: np.ndarray) -> float:
    """Kolmogorov-Smirnov: the largest difference of the two shares that lie below a number."""
    if first.dtype.kind in "iu":
        low, high = (np.bincount(own.ravel(), minlength=256) for own in (first, second))
        return float(np.abs(low.cumsum() / low.sum() - high.cumsum() / high.sum()).max())
    first, second = np.sort(first, axis=None), np.sort(second, axis=None)
    steps = np.unique(np.concatenate((first, second)))
    shares = (np.searchsorted(own, steps, "right") / len(own) for own in (first, second))
    return float(np.abs(np.subtract(*shares)).max())


def tolerance(name: str) -> float:
    """The distance that chance may bring: 1.63 / sqrt(n / 2), 1 in 100, of n independent numbers.

    Numbers of one sample hang together: its boxes count as four, its pixels as three.
    """
    independent = SAMPLES * (4 if name.startswith("box ") else 1)
    share = 0.6 if name.startswith(("pixels", "steps")) else 1.0
    return share * 1.63 / math.sqrt(independent / 2)


@lru_cache
def plain_spread(recipe: Augmentation) -> dict[str, np.ndarray]:
    return spread(plain_samples(images(), recipe))


RECIPES = [
    pytest.param(Augmentation(), id="default"),
    pytest.param(replace(Augmentation(), mosaic=0.0), id="one source"),
    pytest.param(replace(Augmentation(), mosaic=0.5, scale=0.9, flipud=0.4), id="half and half"),
    pytest.param(replace(Augmentation(), degrees=15.0, shear=6.0, perspective=0.0005), id="turned"),
]


@pytest.mark.parametrize("recipe", RECIPES)
def test_spread_as_the_plain_procedure_does(recipe: Augmentation) -> None:
    ours, plain = spread(our_samples(images(), recipe)), plain_spread(recipe)
    apart = {name: distance(ours[name], plain[name]) for name in ours}
    assert {name: value for name, value in apart.items() if value > tolerance(name)} == {}
    whole = len(ours["class"]) / len(plain["class"])
    assert whole == pytest.approx(1, abs=0.06), "boxes that are still worth learning"


@pytest.mark.parametrize(
    ("change", "seen"),
    [
        pytest.param({"scale": 0.2}, "box width", id="scale"),
        pytest.param({"fliplr": 0.0}, "left less right", id="no flips"),
        pytest.param({"flipud": 1.0}, "upper less lower", id="upside down"),
        pytest.param({"mosaic": 0.6}, "boxes of a sample", id="fewer mosaics"),
        pytest.param({"hsv_v": 0.0}, "mean of a sample", id="brightness"),
    ],
)
def test_another_recipe_would_be_noticed(change: dict[str, float], seen: str) -> None:
    """The comparison can fail: one setting of ours changed shows in the number named."""
    ours = spread(our_samples(images(), replace(Augmentation(), **change)))
    plain = plain_spread(Augmentation())
    apart = {name: distance(ours[name], plain[name]) / tolerance(name) for name in ours}
    assert apart[seen] > 1, apart
