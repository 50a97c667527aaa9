"""Boxes and labels painted on photographs, and photographs tiled to one sheet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from reporting.colours import bgr, ink_on, series_colour
from reporting.lettering import drawable, label_of, shortened, text_mask

GROUND = (247, 247, 247)
TEXT = (48, 39, 29)
TILE_SIDE = 480
"""Longest side of a picture on a sheet, pixels."""


@dataclass(frozen=True)
class Tile:
    """A BGR picture [h, w, 3] with the words that belong to it."""

    image: np.ndarray
    caption: str = ""


def colour_of(class_index: int) -> tuple[int, int, int]:
    """The BGR colour of a class: the same in every picture."""
    return bgr(series_colour(class_index))


def fitted(image: np.ndarray, longest: int = TILE_SIDE) -> tuple[np.ndarray, float]:
    """A BGR image made smaller so that no side exceeds `longest` pixels, and the scale used.

    Draw after this, so that lines and letters keep their size.
    """
    height, width = image.shape[:2]
    scale = min(longest / max(height, width), 1.0)
    if scale == 1.0:
        return image, scale
    size = max(round(width * scale), 1), max(round(height * scale), 1)
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA)), scale


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
    corners = np.round(boxes).astype(int).tolist()
    if thickness is None:
        thickness = 1 if min(canvas.shape[:2]) < 320 else 2
    for position, box in enumerate(corners):
        outline(canvas, box, colour_of(int(classes[position])), thickness)
    # Labels after all boxes: no line runs through a word.
    for position, (left, top, _, _) in enumerate(corners if named else []):
        text = label_of(int(classes[position]), class_names)
        if scores is not None:
            text += f" {scores[position]:.2f}"
        tag(canvas, text, (left, top), series_colour(int(classes[position])))
    return canvas


def outline(
    canvas: np.ndarray, box: Sequence[float], colour: tuple[int, int, int], thickness: int
) -> None:
    """Draw the frame of one box, xyxy, into a BGR canvas."""
    left, top, right, bottom = (int(value) for value in box)
    cv2.rectangle(canvas, (left, top), (right, bottom), colour, thickness, cv2.LINE_AA)


def tag(
    canvas: np.ndarray, text: str, corner: tuple[int, int], colour: str, *, size: int = 0
) -> None:
    """Write `text` into a BGR canvas on a ground of `colour` (#rrggbb), above `corner` (x, y).

    It is moved to stay inside. `size` is the height of the letters in pixels, 0 for one that suits
    the canvas.
    """
    height, width = canvas.shape[:2]
    mask = text_mask(text, size or int(np.clip(min(height, width) / 32, 11, 18)))
    left = int(np.clip(corner[0], 0, max(width - mask.shape[1] - 4, 0)))
    top = max(corner[1] - mask.shape[0], 0)
    bottom, right = min(top + mask.shape[0], height), min(left + mask.shape[1] + 4, width)
    if bottom <= top or right <= left:
        return
    canvas[top:bottom, left:right] = bgr(colour)
    _print(canvas, mask, (left + 2, top), bgr(ink_on(colour)))


def _print(
    canvas: np.ndarray, mask: np.ndarray, corner: tuple[int, int], colour: tuple[int, int, int]
) -> None:
    """Blend a text mask into a canvas at `corner` (x, y), cut off at the edges."""
    left, top = corner
    place = canvas[top : top + mask.shape[0], left : left + mask.shape[1]]
    cover = mask[: place.shape[0], : place.shape[1], None].astype(np.float32) / 255
    place[:] = np.rint(place * (1 - cover) + np.array(colour, np.float32) * cover)


def caption(image: np.ndarray, text: str, *, lines: int = 1) -> np.ndarray:
    """A BGR image with text on a strip above it, 20 pixels a line; characters without glyph
    become ?.

    On a narrow image the letters are smaller. A longer text goes on in a second line after its
    first colon, if there are two `lines`; then the middle of what is too long is left out.
    """
    strip = np.full((20 * lines, image.shape[1], 3), GROUND, np.uint8)
    for number, part in enumerate(_parts(text, image.shape[1])[:lines] if lines > 1 else [text]):
        shown = "".join(letter if drawable(letter) else "?" for letter in part)
        if shown:
            _print(strip, _fitting(shown, image.shape[1] - 8), (4, 2 + 20 * number), TEXT)
    return np.concatenate([strip, image])


def _parts(text: str, width: int) -> list[str]:
    """`text`, or before and after its first colon if it is wider than `width` pixels."""
    name, colon, rest = text.partition(": ")
    fits = text_mask(text, 10).shape[1] <= width - 8
    return [text] if fits or not colon else [f"{name}:", rest]


def _fitting(text: str, width: int) -> np.ndarray:
    """A text mask of at most `width` pixels, if eight characters fit there."""
    mask, longest = text_mask(text, 12), len(text)
    if mask.shape[1] > width:
        mask = text_mask(text, 10)
    while mask.shape[1] > width and longest > 8:
        longest -= 1
        mask = text_mask(shortened(text, longest), 10)
    return mask


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


def sheet(tiles: Sequence[Tile], *, columns: int = 4) -> np.ndarray:
    """Tiles on one BGR sheet, each below its caption."""
    lines = max((len(_parts(one.caption, one.image.shape[1])) for one in tiles), default=1)
    return tile([caption(one.image, one.caption, lines=lines) for one in tiles], columns=columns)


def draw_batch(
    images: np.ndarray, targets: np.ndarray, class_names: Sequence[str], *, most: int = 16
) -> np.ndarray:
    """A training batch as the network gets it: RGB uint8 [b, 3, h, w] with its targets [t, 6]
    (image index, class, cxcywh normalised), drawn as one BGR sheet of at most `most` tiles.
    """
    tiles = []
    for position, image in enumerate(images[:most]):
        rows = targets[targets[:, 0] == position]
        picture, _ = fitted(np.ascontiguousarray(image[::-1].transpose(1, 2, 0)))
        height, width = picture.shape[:2]
        centre = rows[:, 2:4] * (width, height)
        half = rows[:, 4:6] * (width, height) / 2
        boxes = np.concatenate([centre - half, centre + half], axis=1)
        tiles.append(draw_boxes(picture, boxes, rows[:, 1].astype(int), class_names))
    return tile(tiles)
