"""Draw a data set in VOC form: pictures like stained blood smears, with exact boxes.

python -m tools.draw_dataset OUT --images 240 --size 320 240 --seed 0 [--mixed]

For demos and tests without downloads. A picture is built as light through stained glass: every
object adds optical density, and the image is lamp * exp(-density), so that overlapping cells darken
each other as they do on a slide.
"""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__":
    if not __package__:  # python tools/draw_dataset.py
        sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
    from tools.parsers import draw_dataset_parser
    from utils.shutdown import listen_for_interrupts

    listen_for_interrupts()  # before the seconds that the imports take
    draw_dataset_parser().parse_args()  # so that help and mistyped flags do not wait either

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import NamedTuple

import cv2
import numpy as np

from tools.parsers import SMALLEST, draw_dataset_parser
from utils.command import run_command

CLASS_NAMES = ("red_cell", "white_cell", "platelet")
MIXED_NAMES = ("red_cell", "white_blood_cell_of_any_kind_with_its_nucleus", "血小板")
SHAPES = ((1.0, 1.0), (1.0, 1.0), (0.75, 4 / 3), (1.0, 4 / 3), (2.0, 2.0), (1.5, 1.0), (0.7, 0.7))
"""Width and height of mixed pictures, as shares of the size that is asked for."""
SCENES = {"usual": 0.74, "sparse": 0.1, "crowded": 0.1, "empty": 0.06}
"""The kinds of mixed pictures and their shares."""
RED, WHITE, PLATELET = range(3)
SHARES = {"val": 0.15, "test": 0.15}  # of the pictures in each split; the rest is for training

OVERSAMPLING, REFERENCE_WIDTH = 2, 320  # radii below are pixels of a picture this wide
WOBBLE = {RED: 0.022, WHITE: 0.03, PLATELET: 0.06}
VISIBLE = {RED: 0.35, WHITE: 0.35, PLATELET: 0.6}  # an object that is cut off more is not drawn
# Optical densities in blue, green, red of eosin, azure and haematoxylin stains.
EOSIN, CYTOPLASM = np.array([[0.34, 0.43, 0.13], [0.08, 0.26, 0.21]], np.float32)
NUCLEUS, AZURE = np.array([[0.50, 1.35, 0.86], [0.30, 0.88, 0.55]], np.float32)
DIRT = np.array([0.30, 0.22, 0.12], np.float32)

SIZE = "<size><width>{}</width><height>{}</height><depth>3</depth></size>"
ANNOTATION = "<annotation>\n<filename>{}</filename>\n" + SIZE + "\n{}</annotation>\n"
BOX = "<bndbox><xmin>{}</xmin><ymin>{}</ymin><xmax>{}</xmax><ymax>{}</ymax></bndbox>"
OBJECT = "<object><name>{}</name>" + BOX + "</object>\n"

Random = np.random.Generator


class Scene(NamedTuple):
    """A picture uint8 [h, w, 3] BGR; boxes int64 [n, 4] (x1, y1, exclusive x2, y2); classes [n]."""

    image: np.ndarray
    boxes: np.ndarray
    classes: np.ndarray


class _Cell(NamedTuple):
    """A cell on the oversampled canvas: class, centre and mean radius in pixels."""

    kind: int
    x: float
    y: float
    radius: float


def draw_scene(width: int, height: int, generator: Random, *, kind: str = "usual") -> Scene:
    """Draw one picture of the given size (pixels) and of a kind of `SCENES`; every choice comes
    from the generator.

    A box is the extent of the visible part of an outline, rounded to whole pixels.
    """
    scale = OVERSAMPLING * width / REFERENCE_WIDTH
    size = (height * OVERSAMPLING, width * OVERSAMPLING)
    density = np.repeat(0.02 + 0.025 * _noise(size, 40 * scale, generator)[..., None], 3, axis=2)
    for _ in range(int(generator.integers(0, 9))):  # dirt, which nobody labels
        centre = tuple(int(c) for c in generator.uniform((0, 0), size[::-1]))
        radius = round(scale * generator.uniform(0.6, 4))
        shade = DIRT * generator.uniform(0.5, 2.5)
        cv2.circle(density, centre, max(1, radius), shade.tolist(), -1, cv2.LINE_AA)
    stain = generator.uniform(0.8, 1.25)
    boxes, classes = [], []
    for cell in _place(size, scale, generator, kind):
        outline = _outline(cell, generator)
        mask = np.zeros(size, np.uint8)
        cv2.fillPoly(mask, [np.round(outline * 16).astype(np.int32)], 255, cv2.LINE_AA, shift=4)
        visible = np.count_nonzero(mask > 127) / cv2.contourArea(outline.astype(np.float32))
        x1, y1, w, h = cv2.boundingRect((mask > 127).astype(np.uint8))
        if visible < VISIBLE[cell.kind]:
            continue
        part = slice(y1, y1 + h), slice(x1, x1 + w)
        _paint(density[part], mask[part] / np.float32(255), (x1, y1), cell, stain, generator)
        corners = np.array((x1, y1, x1 + w, y1 + h)) / OVERSAMPLING
        boxes.append(np.round(corners).astype(np.int64))
        classes.append(cell.kind)
    image = _photograph(density, (width, height), generator)
    return Scene(image, np.array(boxes).reshape(-1, 4), np.array(classes, dtype=np.int64))


def _place(size: tuple[int, int], scale: float, generator: Random, scene: str) -> list[_Cell]:
    """Choose cells in painting order; they may touch and overlap a little, red ones more."""
    mean = generator.uniform(15.5, 19.5)
    plan: tuple[tuple[int, int, float, float], ...] = (
        (WHITE, int(generator.choice(4, p=(0.12, 0.46, 0.32, 0.10))), 26.0, 38.0),
        (PLATELET, int(generator.choice(4, p=(0.25, 0.45, 0.22, 0.08))), 7.8, 10.5),
        (RED, int(generator.integers(6, 17)), 0.88 * mean, 1.14 * mean),
    )
    if scene == "crowded":
        plan = (*plan[:2], (RED, int(generator.integers(40, 60)), 9.5, 13.0))
    elif scene == "sparse":
        cls, _, smallest, largest = plan[int(generator.integers(3))]
        plan = ((cls, 1, smallest, largest),)
    elif scene == "empty":
        plan = ()
    placed: list[_Cell] = []
    for kind, count, smallest, largest in plan:
        for _ in range(count):
            radius = scale * generator.uniform(smallest, largest)
            inset = radius * (0.9 if kind == PLATELET else 0.1)
            for _ in range(40):
                x, y = generator.uniform(inset, (size[1] - inset, size[0] - inset))
                reach = (
                    (0.76 if kind == other.kind == RED else 0.96) * (radius + other.radius)
                    for other in placed
                )
                if all(np.hypot(x - o.x, y - o.y) >= r for o, r in zip(placed, reach, strict=True)):
                    placed.append(_Cell(kind, x, y, radius))
                    break
    return sorted(placed)


def _outline(cell: _Cell, generator: Random) -> np.ndarray:
    """Return a wobbly ellipse as points [n, 2] (x, y): red cells are smooth, platelets ragged."""
    turns = np.linspace(0, 2 * np.pi, 90, endpoint=False)
    radius = np.full(len(turns), cell.radius)
    for order in range(2, 7):
        strength = generator.uniform(0, WOBBLE[cell.kind]) / (order - 1) ** 0.6
        radius += cell.radius * strength * np.cos(order * turns + generator.uniform(0, 2 * np.pi))
    points = np.stack([np.cos(turns), generator.uniform(0.84, 1) * np.sin(turns)], 1)
    angle = generator.uniform(0, np.pi)
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    return np.asarray((points * radius[:, None]) @ turn + (cell.x, cell.y))


def _paint(
    density: np.ndarray,
    mask: np.ndarray,
    corner: tuple[int, int],
    cell: _Cell,
    stain: float,
    generator: Random,
) -> None:
    """Add a cell to its part of the density, whose upper left is `corner`; `mask` is its fill."""
    dx = np.arange(mask.shape[1], dtype=np.float32)[None, :] + np.float32(corner[0] - cell.x)
    dy = np.arange(mask.shape[0], dtype=np.float32)[:, None] + np.float32(corner[1] - cell.y)
    distance = np.hypot(dx, dy) / np.float32(cell.radius)
    grain = 1 + 0.2 * _noise(mask.shape, cell.radius / 8, generator)
    if cell.kind == RED:  # a biconcave disc: dense rim, pale centre
        pallor = generator.uniform(0.45, 0.85) * _bell(distance, 0, generator.uniform(0.38, 0.55))
        profile = (0.86 + 0.3 * _bell(distance, 0.86, 0.16) - pallor) * mask * stain
        density += profile[..., None] * EOSIN * generator.uniform(0.85, 1.15)
    elif cell.kind == WHITE:  # granular cytoplasm, a dark nucleus of one to four lobes
        lobes = int(generator.integers(1, 5))
        ring, width = ((0.1, 0.62), (0.32, 0.44), (0.42, 0.31), (0.45, 0.27))[lobes - 1]
        field = np.zeros_like(distance)
        first = generator.uniform(0, 2 * np.pi)
        for turn in first + generator.uniform(1.0, 1.4) * np.arange(lobes):
            x, y = ring * cell.radius * np.cos(turn), ring * cell.radius * np.sin(turn)
            field += _bell(np.hypot(dx - x, dy - y), 0, width * cell.radius)
        nucleus = np.clip((field - 0.5) * cell.radius / 7 + 0.5, 0, 1) * mask * grain * stain
        density *= (1 - 0.85 * mask)[..., None]  # it pushes aside what lies below
        density += (0.9 * mask * grain * stain)[..., None] * CYTOPLASM
        density += nucleus[..., None] * NUCLEUS
    else:
        density *= (1 - 0.35 * mask)[..., None]
        body = mask * (0.5 + 0.55 * _bell(distance, 0, 0.6)) * grain * stain
        density += body[..., None] * AZURE


def _bell(value: np.ndarray, centre: float, width: float) -> np.ndarray:
    return np.asarray(np.exp(-(((value - centre) / width) ** 2)), np.float32)


def _noise(size: tuple[int, ...], grain: float, generator: Random) -> np.ndarray:
    """Return noise float32 [h, w] of about -2 to 2 whose spots are `grain` pixels wide."""
    coarse = generator.standard_normal([max(2, round(side / grain) + 2) for side in size])
    size_wh = (size[1], size[0])
    return np.asarray(cv2.resize(coarse.astype(np.float32), size_wh, interpolation=cv2.INTER_CUBIC))


def _photograph(density: np.ndarray, size: tuple[int, int], generator: Random) -> np.ndarray:
    """Return the slide as a camera of (width, height) sees it: uneven lamp, cast, blur, noise."""
    y, x = np.mgrid[-1 : 1 : size[1] * 1j, -1 : 1 : size[0] * 1j].astype(np.float32)
    slope = generator.normal(0, 0.05, 2)
    lamp = generator.uniform(0.86, 1) - generator.uniform(0.02, 0.16) * (x**2 + y**2)
    cast = np.array([0.93, 0.95, 0.97]) + generator.normal(0, 0.02, 3)
    light = cv2.resize(cv2.exp(-density), size, interpolation=cv2.INTER_AREA)
    light *= 255 * (lamp + slope[0] * x + slope[1] * y)[..., None] * cast
    blur = size[0] / REFERENCE_WIDTH * generator.uniform(0.35, 1.3)
    light = cv2.GaussianBlur(light, (0, 0), blur)
    light = light + generator.normal(0, generator.uniform(1.5, 5.5), light.shape)
    return np.asarray(np.clip(light, 0, 255), np.uint8)


def draw_dataset(
    folder: Path,
    *,
    images: int = 240,
    size_wh: tuple[int, int] = (320, 240),
    seed: int = 0,
    mixed: bool = False,
) -> dict[str, int]:
    """Write `images` pictures of `size_wh` (width, height) with their boxes; the same for one seed.

    If `mixed`, pictures have sizes and shapes around `size_wh`, some are crowded, sparse or empty,
    and the names of classes are long and Chinese, as in what users have.

    Gives JPEGImages/*.jpg, Annotations/*.xml (corners x1, y1, x2, y2, the second one exclusive,
    so that width = xmax - xmin), ImageSets/Main/{train,val,test}.txt and classes.txt.
    Returns the number of boxes per class. An existing folder is added to, same names replaced.
    """
    folder, names = Path(folder), MIXED_NAMES if mixed else CLASS_NAMES
    lists = folder / "ImageSets" / "Main"
    for part in (folder / "JPEGImages", folder / "Annotations", lists):
        part.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor() as pool:
        counts = list(pool.map(partial(_draw_one, folder, size_wh, (seed, mixed)), range(images)))
    order = np.random.default_rng([seed, images]).permutation(images).tolist()
    for split, share in (*SHARES.items(), ("train", 1.0)):
        count = round(share * images)
        members, order = sorted(order[:count]), order[count:]
        text = "".join(f"smear_{index:05d}\n" for index in members)
        (lists / f"{split}.txt").write_text(text, encoding="utf-8")
    text = "".join(f"{name}\n" for name in names)
    (folder / "classes.txt").write_text(text, encoding="utf-8")
    return dict(zip(names, np.sum(counts, axis=0).tolist(), strict=True))


def _draw_one(
    folder: Path, size: tuple[int, int], seed: tuple[int, bool], index: int
) -> np.ndarray:
    """Write one picture and its boxes; the generator depends on `seed` (and mixed) and index."""
    generator, names, kind = np.random.default_rng([seed[0], index]), CLASS_NAMES, "usual"
    if seed[1]:
        names, share = MIXED_NAMES, SHAPES[int(generator.integers(len(SHAPES)))]
        kind = str(generator.choice(list(SCENES), p=list(SCENES.values())))
        size = round(size[0] * share[0]), round(size[1] * share[1])
    scene = draw_scene(*size, generator, kind=kind)
    path = folder / "JPEGImages" / f"smear_{index:05d}.jpg"
    quality = int(generator.integers(82, 96))
    if not cv2.imwrite(str(path), scene.image, [cv2.IMWRITE_JPEG_QUALITY, quality]):
        raise OSError(f"{path} could not be written")
    objects = "".join(
        OBJECT.format(names[cls], *corners)
        for cls, corners in zip(scene.classes.tolist(), scene.boxes.tolist(), strict=True)
    )
    annotation = folder / "Annotations" / f"{path.stem}.xml"
    annotation.write_text(ANNOTATION.format(path.name, *size, objects), encoding="utf-8")
    return np.bincount(scene.classes, minlength=len(CLASS_NAMES))


def main(arguments: Sequence[str] | None = None) -> int:
    """Draw a data set as the command line asks and say how many boxes it has."""
    parser = draw_dataset_parser()
    options = parser.parse_args(arguments)
    if options.images < 1 or min(options.size) < SMALLEST:
        parser.error(f"--images must be at least 1 and --size at least {SMALLEST} {SMALLEST}")
    counts = draw_dataset(
        options.out,
        images=options.images,
        size_wh=tuple(options.size),
        seed=options.seed,
        mixed=options.mixed,
    )
    boxes = ", ".join(f"{count} {name}" for name, count in counts.items())
    print(f"{options.images} pictures in {options.out}: {boxes}")
    return 0


if __name__ == "__main__":
    raise SystemExit(run_command(main))
