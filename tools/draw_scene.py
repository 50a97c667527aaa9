"""One drawn scene like a stained blood smear under the microscope, with exact boxes.

The picture is built as light through stained glass: every object adds optical density, and the
image is lamp * exp(-density), so overlapping cells darken each other as they do on a slide.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

CLASS_NAMES = ("red_cell", "white_cell", "platelet")
OVERSAMPLING = 2
REFERENCE_WIDTH = 320  # radii below are pixels of a picture this wide
TURN_STEPS = 720

# optical densities, blue-green-red, of the stains (eosin, azure, haematoxylin look-alikes)
EOSIN = np.array([0.34, 0.43, 0.13], np.float32)
CYTOPLASM = np.array([0.08, 0.26, 0.21], np.float32)
NUCLEUS = np.array([0.50, 1.35, 0.86], np.float32)
AZURE = np.array([0.30, 0.88, 0.55], np.float32)
SMEARS = np.array([[0.10, 0.16, 0.22], [0.30, 0.18, 0.10], [0.12, 0.20, 0.14]], np.float32)


@dataclass(frozen=True)
class Scene:
    """A picture uint8 [h, w, 3] BGR; boxes int64 [n, 4] (x1, y1, exclusive x2, y2); classes [n]."""

    image: np.ndarray
    boxes: np.ndarray
    classes: np.ndarray


@dataclass(frozen=True)
class _Blob:
    """A wobbly outline on the oversampled canvas: centre (x, y), mean radius in pixels."""

    kind: str
    x: float
    y: float
    radius: float
    aspect: float
    angle: float
    waves: np.ndarray  # [k, 2]: amplitude and phase of the k-th harmonic from 2 on


@dataclass(frozen=True)
class _Patch:
    """Where a blob lies on the canvas: slices, offsets from its centre, and relative radius.

    `dx` [1, w] and `dy` [h, 1] are offsets of the pixel centres; `q` [h, w] is the distance in
    units of the outline: below 1 is inside.
    """

    rows: slice
    columns: slice
    dx: np.ndarray
    dy: np.ndarray
    q: np.ndarray


def draw_scene(width: int, height: int, generator: np.random.Generator) -> Scene:
    """Draw one picture of the given size (pixels); every choice comes from the generator.

    Cells cut by the border are boxed by their visible part; those hardly visible are not drawn.
    A box is the extent of the outline, rounded to whole pixels.
    """
    scale = OVERSAMPLING * width / REFERENCE_WIDTH
    size = (height * OVERSAMPLING, width * OVERSAMPLING)
    blobs = _place_cells(size, scale, generator)
    haze = 0.02 + np.float32(0.025) * _smooth_noise(size, 40 * scale, generator)
    density = cv2.merge([haze, haze, haze])
    _paint_clutter(density, scale, generator)
    boxes, classes = [], []
    stain = np.float32(generator.uniform(0.8, 1.25))
    for blob in blobs:
        patch = _patch_of(blob, size, margin=1.08 if blob.kind == "white_cell" else 1.2)
        box = _visible_box(blob, size)
        if patch is None or box is None:
            continue
        PAINTERS[blob.kind](density, patch, blob.radius, stain, generator)
        boxes.append(box)
        classes.append(CLASS_NAMES.index(blob.kind))
    _paint_bubbles(density, blobs, scale, generator)
    image = _photograph(density, (width, height), generator)
    return Scene(
        image,
        np.array(boxes, dtype=np.int64).reshape(-1, 4),
        np.array(classes, dtype=np.int64),
    )


def _place_cells(
    size: tuple[int, int], scale: float, generator: np.random.Generator
) -> list[_Blob]:
    """Blobs in painting order; they may touch and overlap a little, whites and platelets less."""
    whites = int(generator.choice(4, p=[0.12, 0.46, 0.32, 0.10]))
    platelets = int(generator.choice(4, p=[0.25, 0.45, 0.22, 0.08]))
    reds = int(generator.integers(6, 17))
    placed: list[_Blob] = []
    plans = [("white_cell", whites, 26, 38), ("platelet", platelets, 7.8, 10.5)]
    mean_radius = generator.uniform(15.5, 19.5)
    plans.append(("red_cell", reds, 0.88 * mean_radius, 1.14 * mean_radius))
    for kind, count, smallest, largest in plans:
        for _ in range(count):
            radius = scale * generator.uniform(smallest, largest)
            blob = _free_blob(kind, radius, size, placed, generator)
            if blob is not None:
                placed.append(blob)
    order = {"red_cell": 0, "white_cell": 1, "platelet": 2}
    return sorted(placed, key=lambda blob: order[blob.kind])


def _free_blob(
    kind: str,
    radius: float,
    size: tuple[int, int],
    placed: list[_Blob],
    generator: np.random.Generator,
) -> _Blob | None:
    height, width = size
    inset = radius * (0.9 if kind == "platelet" else 0.1)
    # a platelet may lie on a red cell, as it does on real slides
    lies_on_red = kind == "red_cell" and generator.random() < 0.15
    for _ in range(40):
        x = generator.uniform(inset, width - inset)
        y = generator.uniform(inset, height - inset)
        for other in placed:
            same = kind == "red_cell" and other.kind == "red_cell"
            slack = 0.76 if same else 0.96
            if lies_on_red and other.kind == "platelet":
                continue
            if np.hypot(x - other.x, y - other.y) < slack * (radius + other.radius):
                break
        else:
            return _Blob(kind, x, y, radius, *_shape(kind, generator))
    return None


def _shape(kind: str, generator: np.random.Generator) -> tuple[float, float, np.ndarray]:
    """Aspect, angle and harmonics of an outline: red cells are smooth, platelets ragged."""
    wobble = {"red_cell": 0.022, "white_cell": 0.03, "platelet": 0.06}.get(kind, 0.12)
    waves = np.stack(
        [
            generator.uniform(0, wobble, 5) / np.arange(1, 6) ** 0.6,
            generator.uniform(0, 2 * np.pi, 5),
        ],
        axis=1,
    )
    return generator.uniform(0.84, 1.0), generator.uniform(0, np.pi), waves.astype(np.float32)


def _patch_of(blob: _Blob, size: tuple[int, int], margin: float) -> _Patch | None:
    """The part of the canvas around a blob; None when it lies outside altogether."""
    reach = blob.radius * margin
    x1, x2 = max(0, int(blob.x - reach)), min(size[1], int(blob.x + reach) + 2)
    y1, y2 = max(0, int(blob.y - reach)), min(size[0], int(blob.y + reach) + 2)
    if x1 >= x2 or y1 >= y2:
        return None
    dx = (np.arange(x1, x2, dtype=np.float32) + np.float32(0.5 - blob.x))[None, :]
    dy = (np.arange(y1, y2, dtype=np.float32) + np.float32(0.5 - blob.y))[:, None]
    return _Patch(slice(y1, y2), slice(x1, x2), dx, dy, _relative_radius(blob, dx, dy))


def _relative_radius(blob: _Blob, dx: np.ndarray, dy: np.ndarray) -> np.ndarray:
    """Distance from the blob's centre in units of its outline, for offsets in pixels."""
    cosine, sine = np.float32(np.cos(blob.angle)), np.float32(np.sin(blob.angle))
    along, across = dx * cosine + dy * sine, (dy * cosine - dx * sine) / np.float32(blob.aspect)
    steps = np.float32(TURN_STEPS / (2 * np.pi))
    turn = (np.arctan2(across, along) * steps).astype(np.int32) % TURN_STEPS
    return np.sqrt(along**2 + across**2) / (_outline(blob) * np.float32(blob.radius))[turn]


def _outline(blob: _Blob) -> np.ndarray:
    """The outline's distance from the centre, in mean radii, for TURN_STEPS directions."""
    turns = np.arange(TURN_STEPS, dtype=np.float32) * np.float32(2 * np.pi / TURN_STEPS)
    orders = np.arange(2, 2 + len(blob.waves), dtype=np.float32)[:, None]
    return 1 + (blob.waves[:, :1] * np.cos(orders * turns + blob.waves[:, 1:])).sum(axis=0)


def _visible_box(blob: _Blob, size: tuple[int, int]) -> tuple[int, int, int, int] | None:
    """Extent of the blob's visible part in output pixels; None if too little of it is visible."""
    reach = int(blob.radius * 1.2) + 2  # no outline swings out further
    left, top = int(blob.x) - reach, int(blob.y) - reach
    side = np.arange(2 * reach + 1, dtype=np.float32)
    dx, dy = side[None, :] + (left + 0.5 - blob.x), side[:, None] + (top + 0.5 - blob.y)
    inside = _relative_radius(blob, dx.astype(np.float32), dy.astype(np.float32)) < 1
    whole = np.count_nonzero(inside)
    inside[: max(0, -top)] = inside[max(0, size[0] - top) :] = False
    inside[:, : max(0, -left)] = inside[:, max(0, size[1] - left) :] = False
    if np.count_nonzero(inside) < (0.6 if blob.kind == "platelet" else 0.35) * whole:
        return None
    columns, rows = np.flatnonzero(inside.any(axis=0)), np.flatnonzero(inside.any(axis=1))
    edges = (left + columns[0], top + rows[0], left + columns[-1] + 1, top + rows[-1] + 1)
    x1, y1, x2, y2 = (round(int(edge) / OVERSAMPLING) for edge in edges)
    return x1, y1, x2, y2


def _smooth_noise(
    size: tuple[int, int], grain: float, generator: np.random.Generator
) -> np.ndarray:
    """Noise float32 of the given (h, w) in about -2..2 whose spots are `grain` pixels wide."""
    coarse = tuple(max(2, round(side / grain) + 2) for side in size)
    noise = generator.standard_normal(coarse).astype(np.float32)
    return cv2.resize(noise, (size[1], size[0]), interpolation=cv2.INTER_CUBIC)


def _bell(value: np.ndarray, centre: float, width: float) -> np.ndarray:
    return np.exp(-(((value - np.float32(centre)) / np.float32(width)) ** 2))


def _fill(q: np.ndarray, radius: float, softness: float = 2.5) -> np.ndarray:
    """Coverage 0..1 of an outline whose edge is `softness` pixels wide."""
    return np.clip((1 - q) * np.float32(radius / softness) + 0.5, 0, 1)


def _paint_red_cell(
    density: np.ndarray,
    patch: _Patch,
    radius: float,
    stain: np.float32,
    generator: np.random.Generator,
) -> None:
    """A biconcave disc: dense rim, pale centre a little off the middle, thin bright halo."""
    pallor, spread = generator.uniform(0.45, 0.85), generator.uniform(0.38, 0.55)
    shift = generator.uniform(-0.1, 0.1, 2) * radius
    centre = np.hypot(patch.dx - shift[0], patch.dy - shift[1]).astype(np.float32) / radius
    profile = (
        0.86 + 0.30 * _bell(patch.q, 0.86, 0.16) - np.float32(pallor) * _bell(centre, 0, spread)
    )
    profile *= _fill(patch.q, radius) * np.float32(generator.uniform(0.85, 1.15)) * stain
    profile -= 0.16 * _bell(patch.q, 1.09, 0.045)
    tint = EOSIN * generator.uniform(0.93, 1.07, 3).astype(np.float32)
    density[patch.rows, patch.columns] += profile[..., None] * tint


def _paint_white_cell(
    density: np.ndarray,
    patch: _Patch,
    radius: float,
    stain: np.float32,
    generator: np.random.Generator,
) -> None:
    """A big cell with granular cytoplasm and a dark nucleus of one to four lobes."""
    fill = _fill(patch.q, radius, 3.5)
    granules = 1 + 0.22 * _smooth_noise(patch.q.shape, radius / 14, generator)
    body = fill * (0.8 + 0.45 * _bell(patch.q, 0.95, 0.12)) * granules * stain
    lobes = int(generator.integers(1, 5))
    field = np.zeros_like(patch.q)
    start, bend = generator.uniform(0, 2 * np.pi), generator.uniform(1.0, 1.4)
    ring, width = {1: (0.10, 0.62), 2: (0.32, 0.44), 3: (0.42, 0.31), 4: (0.45, 0.27)}[lobes]
    for lobe in range(lobes):
        turn = start + bend * lobe
        x, y = ring * radius * np.cos(turn), ring * radius * np.sin(turn)
        spread = width * radius * generator.uniform(0.88, 1.1)
        field += np.exp(-((patch.dx - x) ** 2 + (patch.dy - y) ** 2) / np.float32(spread**2))
    field += 0.05 * _smooth_noise(patch.q.shape, radius / 5, generator)
    nucleus = np.clip((field - 0.5) * np.float32(radius / 7) + 0.5, 0, 1) * fill
    chromatin = 1 + 0.14 * _smooth_noise(patch.q.shape, radius / 8, generator)
    region = density[patch.rows, patch.columns]
    region *= (1 - 0.85 * fill)[..., None]  # the cell pushes aside what lies below
    region += body[..., None] * CYTOPLASM + (nucleus * chromatin * stain)[..., None] * NUCLEUS


def _paint_platelet(
    density: np.ndarray,
    patch: _Patch,
    radius: float,
    stain: np.float32,
    generator: np.random.Generator,
) -> None:
    """A small ragged purple speck with a granular heart."""
    fill = _fill(patch.q, radius, 3.0)
    grain = 1 + 0.28 * _smooth_noise(patch.q.shape, radius / 3.5, generator)
    body = fill * (0.5 + 0.55 * _bell(patch.q, 0, 0.6)) * grain * stain
    region = density[patch.rows, patch.columns]
    region *= (1 - 0.35 * fill)[..., None]
    region += body[..., None] * AZURE


PAINTERS = {
    "red_cell": _paint_red_cell,
    "white_cell": _paint_white_cell,
    "platelet": _paint_platelet,
}


def _paint_clutter(density: np.ndarray, scale: float, generator: np.random.Generator) -> None:
    """What nobody labels: wide stain blotches, specks of dirt, now and then a fibre."""
    size = density.shape[:2]
    for _ in range(int(generator.integers(0, 4))):
        radius = scale * generator.uniform(20, 60)
        x, y = generator.uniform(0, size[1]), generator.uniform(0, size[0])
        blob = _Blob("blotch", x, y, radius, *_shape("blotch", generator))
        patch = _patch_of(blob, size, margin=1.7)
        if patch is not None:
            strength = generator.uniform(0.35, 0.9)
            cloud = np.clip(1.3 - patch.q, 0, 1) ** 1.5
            cloud *= 1 + 0.25 * _smooth_noise(patch.q.shape, 8 * scale, generator)
            tint = SMEARS[generator.integers(len(SMEARS))] * np.float32(strength)
            density[patch.rows, patch.columns] += cloud[..., None] * tint
    for _ in range(int(generator.integers(0, 9))):
        centre = (int(generator.uniform(0, size[1])), int(generator.uniform(0, size[0])))
        shade = generator.uniform(0.25, 0.9)
        radius = max(1, round(scale * generator.uniform(0.6, 1.8)))
        cv2.circle(density, centre, radius, (shade, shade, 0.8 * shade), -1, cv2.LINE_AA)
    if generator.random() < 0.2:
        start = generator.uniform([0, 0], [size[1], size[0]])
        turn = generator.uniform(0, 2 * np.pi) + np.cumsum(generator.normal(0, 0.12, 40))
        steps = np.stack([np.cos(turn), np.sin(turn)], axis=1) * 3 * scale
        points = (start + np.cumsum(steps, axis=0)).astype(np.int32)
        shade = generator.uniform(0.25, 0.5)
        colour = (1.2 * shade, shade, 0.7 * shade)
        cv2.polylines(density, [points], False, colour, max(1, round(0.7 * scale)), cv2.LINE_AA)


def _paint_bubbles(
    density: np.ndarray, blobs: list[_Blob], scale: float, generator: np.random.Generator
) -> None:
    """Air bubbles: a dark edge, a bright ring inside, and the lamp's reflection."""
    size = density.shape[:2]
    for _ in range(int(generator.choice(3, p=[0.6, 0.3, 0.1]))):
        radius = scale * generator.uniform(6, 20)
        x, y = generator.uniform(0, size[1]), generator.uniform(0, size[0])
        hidden = (np.hypot(b.x - x, b.y - y) < b.radius + radius for b in blobs)
        if any(hidden):
            continue
        blob = _Blob("bubble", x, y, radius, 1.0, 0.0, np.zeros((0, 2), np.float32))
        patch = _patch_of(blob, size, margin=1.3)
        if patch is None:
            continue
        ring = 0.75 * _bell(patch.q, 1.0, 0.07) - 0.20 * _bell(patch.q, 0.84, 0.09)
        glint = np.hypot(patch.dx + 0.35 * radius, patch.dy + 0.35 * radius) / np.float32(radius)
        ring -= 0.22 * _bell(glint, 0, 0.16)
        density[patch.rows, patch.columns] += ring[..., None]


def _photograph(
    density: np.ndarray, size: tuple[int, int], generator: np.random.Generator
) -> np.ndarray:
    """The slide as a camera of size (width, height) sees it: uneven lamp, cast, blur, noise."""
    width, height = size
    x = np.linspace(-1, 1, width, dtype=np.float32)[None, :] - np.float32(generator.normal(0, 0.2))
    y = np.linspace(-1, 1, height, dtype=np.float32)[:, None] - np.float32(generator.normal(0, 0.2))
    slope = generator.normal(0, 0.05, 2).astype(np.float32)
    vignette = np.float32(generator.uniform(0.02, 0.16)) * (x**2 + y**2)
    lamp = np.float32(generator.uniform(0.86, 1.0)) - vignette + slope[0] * x + slope[1] * y
    warmth = generator.normal(0, 0.035)
    cast = np.array([0.93 - warmth, 0.95, 0.97 + warmth]) + generator.normal(0, 0.012, 3)
    light = cv2.resize(cv2.exp(-density), size, interpolation=cv2.INTER_AREA)
    light *= lamp[..., None] * (255 * cast).astype(np.float32)
    sharpness = size[0] / REFERENCE_WIDTH
    light = cv2.GaussianBlur(light, (0, 0), sharpness * generator.uniform(0.35, 1.3))
    noise = generator.standard_normal(light.shape, dtype=np.float32)
    noisy = light + noise * np.float32(generator.uniform(1.5, 5.5))
    return np.clip(noisy, 0, 255).astype(np.uint8)
