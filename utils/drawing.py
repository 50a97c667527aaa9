"""Boxes and labels painted on photographs, and photographs tiled to one sheet."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

# Distinct on pink, white and dark grounds alike; BGR.
PALETTE: tuple[tuple[int, int, int], ...] = (
    (36, 28, 237),
    (204, 110, 0),
    (76, 153, 0),
    (180, 60, 160),
    (0, 140, 255),
    (160, 160, 0),
    (60, 20, 140),
    (90, 90, 90),
    (200, 40, 90),
    (0, 90, 140),
)
FONT = cv2.FONT_HERSHEY_SIMPLEX
GROUND = (247, 247, 247)


def colour_of(class_index: int) -> tuple[int, int, int]:
    """The BGR colour of a class: the same in every picture."""
    return PALETTE[class_index % len(PALETTE)]


def label_of(class_index: int, class_names: Sequence[str]) -> str:
    """A label that OpenCV's ASCII font can draw."""
    name = class_names[class_index] if class_index < len(class_names) else ""
    return name if name.isascii() and name else f"class {class_index}"


def draw_boxes(
    image: np.ndarray,
    boxes: np.ndarray,
    classes: np.ndarray,
    class_names: Sequence[str],
    scores: np.ndarray | None = None,
    *,
    thickness: int | None = None,
    named: bool = True,
) -> np.ndarray:
    """A copy of a BGR image [h, w, 3] with boxes [n, 4], xyxy in its pixels, and their labels.

    `thickness` of the lines is in pixels, None for one that suits the picture; without `named`
    there are boxes only.
    """
    canvas = np.ascontiguousarray(image).copy()
    scale = max(0.32, min(canvas.shape[:2]) / 1100)
    if thickness is None:
        thickness = 1 if min(canvas.shape[:2]) < 500 else 2
    for position, (x1, y1, x2, y2) in enumerate(np.round(boxes).astype(int).tolist()):
        colour = colour_of(int(classes[position]))
        cv2.rectangle(canvas, (x1, y1), (x2, y2), colour, thickness, cv2.LINE_AA)
        if not named:
            continue
        text = label_of(int(classes[position]), class_names)
        if scores is not None:
            text += f" {scores[position]:.2f}"
        (width, height), _ = cv2.getTextSize(text, FONT, scale, 1)
        top = max(y1 - height - 4, 0)
        cv2.rectangle(canvas, (x1, top), (x1 + width + 4, top + height + 4), colour, -1)
        cv2.putText(
            canvas, text, (x1 + 2, top + height + 1), FONT, scale, (255, 255, 255), 1, cv2.LINE_AA
        )
    return canvas


def caption(image: np.ndarray, text: str) -> np.ndarray:
    """A BGR image with one line of text on a strip above it."""
    strip = np.full((20, image.shape[1], 3), GROUND, np.uint8)
    cv2.putText(strip, text, (4, 14), FONT, 0.4, (40, 40, 40), 1, cv2.LINE_AA)
    return np.concatenate([strip, image])


def tile(images: Sequence[np.ndarray], *, columns: int = 4, gap: int = 6) -> np.ndarray:
    """BGR images of any sizes on one sheet, row by row, each in a cell of the largest size."""
    if not images:
        return np.full((32, 32, 3), GROUND, np.uint8)
    height = max(image.shape[0] for image in images)
    width = max(image.shape[1] for image in images)
    columns = min(columns, len(images))
    rows = -(-len(images) // columns)
    sheet = np.full((gap + rows * (height + gap), gap + columns * (width + gap), 3), 255, np.uint8)
    for position, image in enumerate(images):
        top = gap + (position // columns) * (height + gap)
        left = gap + (position % columns) * (width + gap)
        sheet[top : top + image.shape[0], left : left + image.shape[1]] = image
    return sheet


def draw_batch(
    images: np.ndarray, targets: np.ndarray, class_names: Sequence[str], *, most: int = 16
) -> np.ndarray:
    """A training batch as the network gets it: RGB uint8 [b, 3, h, w] with its targets [t, 6]
    (image index, class, cxcywh normalised), drawn as one BGR sheet of at most `most` tiles.
    """
    tiles = []
    height, width = images.shape[2:]
    for position, image in enumerate(images[:most]):
        rows = targets[targets[:, 0] == position]
        centre = rows[:, 2:4] * (width, height)
        half = rows[:, 4:6] * (width, height) / 2
        boxes = np.concatenate([centre - half, centre + half], axis=1)
        picture = image[::-1].transpose(1, 2, 0)
        tiles.append(draw_boxes(picture, boxes, rows[:, 1].astype(int), class_names))
    return tile(tiles)
