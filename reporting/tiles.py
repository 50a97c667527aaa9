"""Images with boxes, labels and captions, for pages and for contact sheets.

An image is scaled first and drawn on afterwards, by the sheet or by the browser: lines and letters
have one size, whatever the sizes of the photographs.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePath
from typing import NamedTuple

import cv2
import numpy as np

from reporting.drawing import (
    GROUND,
    LABEL_HEIGHT,
    SERIES,
    TEXT,
    Label,
    bgr,
    blend,
    box_labels,
    draw_labels,
    fit,
    series_colour,
    shorten,
    text_mask,
)

TILE_SIDE = 800
"""Longest side of the image of a tile, pixels: what a page shows when a picture is enlarged."""
SHEET_SIDE = 480
"""Longest side of an image of a contact sheet, pixels."""
LETTERS, LINE = 20, 26
"""Height of the letters of a sheet and of a line of its captions, pixels."""
LETTERS_ACROSS = 26
"""Heights of letters of a label that the longer side of a small picture of a page has."""
COVERED = 0.8
"""Share of the height of a label from which on another one may begin."""
DASH = 7
"""Length of a dash, pixels."""
MOST_NAMED = 12
"""Boxes of an image that are named; more are a crowd, whose lines are thin."""
NAMED_OF_A_CROWD = 6
"""Boxes of a crowd that a small picture names, if they cover no other name."""
HASH = re.compile(r"[0-9a-fA-F]{24,}")
"""The stem of a file that a platform named by its content."""
HASH_SHOWN = 12
"""First characters of such a name, which `grep` finds."""
REFERENCE, PARTNER = "#ffffff", "#ffd400"
"""Of the box that decided a mining score, and of its partner in the perturbed view."""


class ImageName(NamedTuple):
    """The names of an image."""

    name: str
    """That people know it by: the original one, else that of its file."""
    file: str

    @classmethod
    def of(cls, path: str, originals: Mapping[str, str]) -> ImageName:
        """Return the names of a file; `originals` are by path, where a platform renamed files."""
        file = PurePath(path).name
        return cls(originals.get(path) or file, file)

    @property
    def short(self) -> str:
        """For a caption: of a hash the first characters, of another long name both ends."""
        stem, dot, end = self.name.rpartition(".")
        if HASH.fullmatch(stem):
            return f"{stem[:HASH_SHOWN]}…{dot}{end}"
        return shorten(self.name)

    @property
    def whole(self) -> str:
        """The name and, where it is another one, that of the file."""
        return self.name if self.name == self.file else f"{self.name} ({self.file})"


@dataclass(frozen=True)
class Outline:
    """The frame of a box, xyxy in pixels of its tile's image; `thickness` in those of the sheet."""

    corners: tuple[float, float, float, float]
    colour: str
    thickness: int = 2
    dashed: bool = False
    rim: bool = False
    """Whether it has a dark rim, to be seen on every ground."""


@dataclass(frozen=True)
class Tile:
    """A BGR image [h, w, 3] with the outlines and labels that belong on it and its caption."""

    image: np.ndarray
    caption: str = ""
    labels: Sequence[Label] = ()
    """Those that matter most first: in a small picture others give way to them."""
    outlines: Sequence[Outline] = ()
    title: str = ""
    """The whole name of the image, which a page shows under the pointer."""

    @property
    def names_all(self) -> bool:
        """Whether a small picture shows every label."""
        return all(self.clear)

    @property
    def clear(self) -> list[bool]:
        """Whether a small picture shows each label: where it covers none of those shown before it,
        and few of a crowd.
        """
        crowded = max(len(self.outlines), len(self.labels)) > MOST_NAMED
        most = NAMED_OF_A_CROWD if crowded else MOST_NAMED + 1
        height, width = self.image.shape[:2]
        letter = max(height, width) / LETTERS_ACROSS
        taken: list[tuple[float, float, float]] = []
        found = []
        for one in self.labels:
            left = max(min(one.corner[0], width - one.width * letter), 0)
            right, high = left + one.width * letter, LABEL_HEIGHT * letter
            top = max(min(one.corner[1], height) - high, 0)
            found.append(
                len(taken) < most
                and all(
                    right <= x1 or left >= x2 or abs(top - y) >= COVERED * high
                    for x1, x2, y in taken
                )
            )
            if found[-1]:
                taken.append((left, right, top))
        return found


def outlines(
    boxes: np.ndarray, colours: Sequence[str], *, thickness: int = 2, dashed: bool = False
) -> list[Outline]:
    """Return the frames of boxes [n, 4], xyxy, each in its colour."""
    return [
        Outline((left, top, right, bottom), colour, thickness, dashed)
        for (left, top, right, bottom), colour in zip(boxes.tolist(), colours, strict=True)
    ]


def annotated_tile(
    image: np.ndarray,
    caption: str,
    boxes: np.ndarray,
    classes: np.ndarray,
    class_names: Sequence[str],
    scores: np.ndarray | None = None,
    *,
    title: str = "",
) -> Tile:
    """Return a tile with boxes [n, 4], xyxy in pixels of the image [h, w, 3] at its full size.

    In a crowd lines are thin, and one box of each class is named first, then the least certain.
    """
    small, scale = fit(image, TILE_SIDE)
    labels = box_labels(boxes * scale, classes, class_names, scores)
    crowded = len(boxes) > MOST_NAMED
    if crowded:
        kinds = len(np.unique(classes))
        order = naming_order(classes, scores)
        named = [labels[row] for row in order[:kinds]]
        rest = [labels[row] for row in order[kinds:]]
        if len(class_names) <= len(SERIES):  # their colours are distinct and say the class
            shown = [""] * len(boxes) if scores is None else [f"{s:.2f}" for s in scores]
            texts = [shown[row] for row in order[kinds:]]
            rest = [replace(one, text=text) for one, text in zip(rest, texts, strict=True) if text]
        labels = named + rest
    colours = [series_colour(int(index)) for index in classes]
    frames = outlines(boxes * scale, colours, thickness=2 - crowded)
    return Tile(small, caption, labels, frames, title)


def naming_order(classes: np.ndarray, ranks: np.ndarray | None = None) -> list[int]:
    """Return boxes in the order in which a crowd is named: one of each class, then the others.

    Those of low `ranks` [n], if any, come first.
    """
    rows = np.arange(len(classes)) if ranks is None else np.argsort(ranks, kind="stable")
    first: list[int] = rows[np.sort(np.unique(classes[rows], return_index=True)[1])].tolist()
    return first + [row for row in rows.tolist() if row not in first]


def mark_deciding(tile: Tile, breakdown: Mapping[str, object], scale: float) -> Tile:
    """Return a tile with the box that decided its score in white and its partner in yellow.

    `breakdown` has `box` and `partner_box`, xyxy in pixels of the image at its full size, where
    they are known; `scale` brings them to the tile.
    """
    frames, labels = list(tile.outlines), list(tile.labels)
    for name, colour in (("box", REFERENCE), ("partner_box", PARTNER)):
        box = breakdown.get(name)
        if isinstance(box, list | tuple) and np.isfinite(np.array(box, float)).all():
            left, top, right, bottom = np.clip(np.array(box, float) * scale, -1e4, 1e4).tolist()
            frames.append(Outline((left, top, right, bottom), colour, rim=True))
            if name == "partner_box":
                below = (round(left), round(bottom) + LINE)
                labels.insert(0, Label(str(breakdown.get("view", "")), below, colour))
    return replace(tile, labels=labels, outlines=frames)


def batch_tiles(
    images: np.ndarray, targets: np.ndarray, class_names: Sequence[str], *, most: int = 16
) -> list[Tile]:
    """Return the first images of a training batch as the network gets them.

    `images` are RGB uint8 [b, 3, h, w], `targets` [t, 6] image index, class, cxcywh normalised.
    """
    tiles = []
    for position, image in enumerate(images[:most]):
        rows = targets[targets[:, 0] == position]
        height, width = image.shape[1:]
        centre = rows[:, 2:4] * (width, height)
        half = rows[:, 4:6] * (width, height) / 2
        boxes = np.concatenate([centre - half, centre + half], axis=1)
        pixels = np.ascontiguousarray(image[::-1].transpose(1, 2, 0))
        tiles.append(annotated_tile(pixels, "", boxes, rows[:, 1].astype(int), class_names))
    return tiles


def contact_sheet(tiles: Sequence[Tile], *, columns: int = 4, gap: int = 8) -> np.ndarray:
    """Return one BGR image of tiles of any sizes, row by row, each below its caption if any has."""
    if not tiles:
        return np.full((32, 32, 3), GROUND, np.uint8)
    images = [drawn(tile) for tile in tiles]
    width, columns = max(image.shape[1] for image in images), min(columns, len(tiles))
    rows = []
    for first in range(0, len(tiles), columns):
        own = images[first : first + columns]
        captions = [_lines(tile.caption, width - 8) for tile in tiles[first : first + columns]]
        head = LINE * max(map(len, captions))
        row = np.full((head + max(i.shape[0] for i in own), 0, 3), 255, np.uint8)
        for image, lines in zip(own, captions, strict=True):
            cell = np.full((len(row), width + gap, 3), 255, np.uint8)
            cell[:head, :width] = GROUND
            for number, line in enumerate(lines):
                blend(cell, text_mask(line, LETTERS), (4, LINE * number), bgr(TEXT))
            cell[head : head + image.shape[0], : image.shape[1]] = image
            row = np.concatenate([row, cell], axis=1)
        missing = columns * (width + gap) - row.shape[1]
        rows.append(np.pad(row, ((0, gap), (gap, missing), (0, 0)), constant_values=255))
    return np.pad(np.concatenate(rows), ((gap, 0), (0, 0), (0, 0)), constant_values=255)


def drawn(tile: Tile, side: int = SHEET_SIDE) -> np.ndarray:
    """Return the image of a tile, its longest side of `side` pixels, with outlines and labels."""
    height, width = tile.image.shape[:2]
    scale = side / max(height, width)
    size = max(round(width * scale), 1), max(round(height * scale), 1)
    smooth = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    canvas = np.ascontiguousarray(cv2.resize(tile.image, size, interpolation=smooth))
    for one in tile.outlines:
        corners = tuple(round(value * scale) for value in one.corners)
        if one.rim:
            _frame(canvas, corners, replace(one, colour="#1e1e1e", thickness=one.thickness + 3))
        _frame(canvas, corners, one)
    labels = [
        replace(one, corner=(round(one.corner[0] * scale), round(one.corner[1] * scale)))
        for one, clear in zip(tile.labels, tile.clear, strict=True)
        if clear
    ]
    draw_labels(canvas, labels, LETTERS - 4)
    return canvas


def _frame(canvas: np.ndarray, corners: tuple[int, ...], outline: Outline) -> None:
    """Paint the four sides of a frame, whole or in dashes; what lies outside is cut off."""
    left, top, right, bottom = corners
    step, length = (2 * DASH, DASH) if outline.dashed else (10**5, 10**5)
    bars = [
        (x, y, min(x + length, right), y)
        for x in range(left, right + 1, step)
        for y in (top, bottom)
    ]
    bars += [
        (x, y, x, min(y + length, bottom))
        for y in range(top, bottom + 1, step)
        for x in (left, right)
    ]
    before = outline.thickness // 2
    after = outline.thickness - before
    for x1, y1, x2, y2 in bars:
        across, down = (max(x1 - before, 0), max(x2 + after, 0)), (max(y1 - before, 0), y2 + after)
        canvas[down[0] : max(down[1], 0), across[0] : across[1]] = bgr(outline.colour)


def _lines(caption: str, width: int) -> list[str]:
    """Break a caption into lines of at most `width` pixels, the first after its first colon.

    A word that is too long alone is shortened in its middle.
    """
    return [line for part in caption.split(": ", 1) for line in _wrapped(part, width)]


def _wrapped(text: str, width: int) -> Iterator[str]:
    line = ""
    for word in text.split():
        longest = len(word)
        while text_mask(shorten(word, longest), LETTERS).shape[1] > width and longest > 8:
            longest -= 1
        word = shorten(word, longest)
        together = f"{line} {word}".strip()
        if line and text_mask(together, LETTERS).shape[1] > width:
            yield line
            together = word
        line = together
    if line:
        yield line
