"""Drawing on images: colours, text in the fonts of the machine, boxes and their labels."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from itertools import groupby
from pathlib import Path

import cv2
import matplotlib
import numpy as np
from matplotlib import font_manager, ft2font
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont, features

from data.images import ImageError, read_image

TEXT = "#1d2730"
MUTED = "#5b6873"
ACCENT = "#0b5c8e"
"""Of what counts or is found."""
ALERT = "#d55e00"
"""Of what is missed."""
INVENTED = "#a3318f"
"""Of what is detected where nothing of the class is labelled; its lines are dashed too."""
SERIES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7a5c00", "#6b6b6b")
"""Distinct for the colour-blind too: the set of Okabe and Ito ("Color Universal Design", 2008),
its yellow replaced by a brown that shows on white, its black by a grey."""
GROUND = (247, 247, 247)
"""BGR, behind captions."""

LABEL_HEIGHT = 1.25
"""Of a label, in heights of its letters."""
LONGEST_NAME = 28
FONT_FOLDERS = (
    *("/usr/share/fonts", "/usr/local/share/fonts", "/System/Library/Fonts", "/Library/Fonts"),
    *(os.path.expanduser("~/.local/share/fonts"), os.path.expanduser("~/.fonts")),
)


def series_colour(number: int) -> str:
    """Return the colour #rrggbb of the series or class `number`; they repeat after eight."""
    return SERIES[number % len(SERIES)]


def class_colours(class_names: Sequence[str]) -> list[tuple[str, str]]:
    """Return colour and name of each class; nothing where colours repeat."""
    if len(class_names) > len(SERIES):
        return []
    return list(zip(SERIES, class_names, strict=False))


def bgr(colour: str) -> tuple[int, int, int]:
    """Return #rrggbb as BGR from 0 to 255."""
    red, green, blue = bytes.fromhex(colour[1:])
    return blue, green, red


def text_colour_on(colour: str) -> str:
    """Return black or white, whichever reads better on `colour` (relative luminance, WCAG 2)."""
    shares = (channel / 255 for channel in bgr(colour)[::-1])
    linear = [s / 12.92 if s <= 0.04045 else ((s + 0.055) / 1.055) ** 2.4 for s in shares]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return "#000000" if luminance > 0.179 else "#ffffff"


def default_font() -> Path:
    """Return DejaVu Sans as matplotlib ships it: no Chinese, Japanese or Korean."""
    return Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"


@lru_cache(maxsize=1)
def _system_fonts() -> tuple[Path, ...]:
    """Return the font files of the machine, regular faces first."""
    paths = map(Path, font_manager.findSystemFonts(FONT_FOLDERS))
    return tuple(sorted(paths, key=lambda path: ("Regular" not in path.name, path)))


@cache
def _characters(font: Path) -> NDArray[np.int32]:
    """Return the code points of a font; none where it is broken or has bitmaps only (emoji)."""
    try:
        face = ft2font.FT2Font(str(font))
    except (OSError, RuntimeError):
        return np.zeros(0, np.int32)
    return np.fromiter(face.get_charmap() if face.scalable else (), np.int32)


def is_right_to_left(characters: Iterable[str]) -> bool:
    """Return whether a character runs from right to left, as in Arabic and Hebrew."""
    return any(unicodedata.bidirectional(c) in ("R", "AL", "AN") for c in characters)


def font_for(text: str) -> Path | None:
    """Return a font that has every character of `text` and the digits, or None.

    Text from right to left needs Raqm, which shapes and orders its letters.
    """
    return _font_with(frozenset(text) | frozenset("0123456789."))


@lru_cache(maxsize=4096)
def _font_with(characters: frozenset[str]) -> Path | None:
    rtl = is_right_to_left(characters)
    if (rtl and not features.check("raqm")) or not all(c.isprintable() for c in characters):
        return None
    needed = [ord(character) for character in characters]
    for font in (default_font(), *_system_fonts()):
        if np.isin(needed, _characters(font)).all():
            return font
    return None


def shorten(text: str, longest: int = LONGEST_NAME) -> str:
    """Return `text` on one line, its middle left out beyond `longest` characters."""
    flat = " ".join(text.split())
    if len(flat) <= longest:
        return flat
    head = (longest - 1) // 2
    return f"{flat[:head]}…{flat[len(flat) - (longest - 1 - head) :]}"


@lru_cache(maxsize=2048)
def text_mask(text: str, size: int) -> np.ndarray:
    """Render one line of text as coverage uint8 [h, w]; `size` in pixels.

    Where no font has all of it, each script is in a font of its own, and a character without any
    becomes ?.
    """
    known = "".join(c if font_for(c) else "?" for c in text)
    whole = font_for(known)
    pieces = [(whole, known)] if whole else [(f, "".join(c)) for f, c in groupby(known, font_for)]
    fonts = [(ImageFont.truetype(str(font or default_font()), size), own) for font, own in pieces]
    ascent = max((font.getmetrics()[0] for font, _ in fonts), default=size)
    descent = max((font.getmetrics()[1] for font, _ in fonts), default=0)
    width = sum(font.getlength(own) for font, own in fonts)
    canvas, left = Image.new("L", (max(int(np.ceil(width)), 1), ascent + descent), 0), 0.0
    for font, own in fonts:
        place = (left, ascent - font.getmetrics()[0])
        ImageDraw.Draw(canvas).text(place, own, fill=255, font=font)
        left += font.getlength(own)
    mask = np.asarray(canvas, np.uint8)
    mask.setflags(write=False)
    return mask


@dataclass(frozen=True)
class Label:
    """Text on a ground of `colour` (#rrggbb) above the point (x, y) of an image."""

    text: str
    corner: tuple[int, int]
    colour: str
    fallback: str = ""
    """Drawn where no font of the machine has the text; a page shows the text itself."""

    @property
    def width(self) -> float:
        """The width of the text, about, in heights of its letters."""
        wide = (unicodedata.east_asian_width(c) in "WF" for c in self.text)
        return 0.4 + sum(1.0 if one else 0.6 for one in wide)


def read_if_possible(path: str, *, upright: bool = False) -> np.ndarray | None:
    """Return a BGR image as `read_image`, or None for a file that can no longer be read."""
    try:
        return read_image(path, upright=upright)
    except ImageError:
        return None


def fit(image: np.ndarray, longest: int) -> tuple[np.ndarray, float]:
    """Shrink a BGR image to at most `longest` pixels a side; return it with the scale."""
    height, width = image.shape[:2]
    scale = min(longest / max(height, width), 1.0)
    if scale == 1.0:
        return image, scale
    size = max(round(width * scale), 1), max(round(height * scale), 1)
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA)), scale


def box_labels(
    boxes: np.ndarray,
    classes: np.ndarray,
    class_names: Sequence[str],
    scores: np.ndarray | None = None,
    *,
    colour: str = "",
) -> list[Label]:
    """Return the class and score of each box [n, 4] as a label at its corner, in `colour` or that
    of the class.
    """
    labels = []
    for number, (left, top, _, _) in enumerate(np.round(boxes).astype(int).tolist()):
        index = int(classes[number])
        score = "" if scores is None else f" {scores[number]:.2f}"
        fallback = f"class {index}"
        name = shorten(class_names[index]) if index < len(class_names) else ""
        ground = colour or series_colour(index)
        labels.append(Label((name or fallback) + score, (left, top), ground, fallback + score))
    return labels


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
    """Return a copy of a BGR image [h, w, 3] with boxes [n, 4], xyxy in its pixels, and labels.

    `thickness` of the lines is in pixels, None for one that suits the image; without `named`
    there are boxes only.
    """
    canvas = np.ascontiguousarray(image).copy()
    if thickness is None:
        thickness = 1 if min(canvas.shape[:2]) < 320 else 2
    for box, index in zip(np.round(boxes), classes, strict=True):
        outline(canvas, box, series_colour(int(index)), thickness)
    if named:  # after all boxes: no line runs through a word
        draw_labels(canvas, box_labels(boxes, classes, class_names, scores))
    return canvas


def outline(canvas: np.ndarray, box: np.ndarray, colour: str, thickness: int) -> None:
    """Draw the frame of one box, xyxy, into a BGR canvas."""
    left, top, right, bottom = box.astype(int).tolist()
    cv2.rectangle(canvas, (left, top), (right, bottom), bgr(colour), thickness, cv2.LINE_AA)


def draw_labels(canvas: np.ndarray, labels: Sequence[Label], size: int = 0) -> None:
    """Write labels into a BGR canvas, each moved to stay inside.

    `size` of the letters is in pixels, 0 for one that suits the image.
    """
    height, width = canvas.shape[:2]
    size = size or int(np.clip(min(height, width) / 32, 11, 18))
    for label in labels:
        text = label.text if font_for(label.text) else label.fallback
        mask = text_mask(text, size)
        left = int(np.clip(label.corner[0], 0, max(width - mask.shape[1] - 4, 0)))
        top = max(min(label.corner[1], height) - mask.shape[0], 0)
        ground = canvas[top : top + mask.shape[0], left : left + mask.shape[1] + 4]
        if ground.size:
            ground[:] = bgr(label.colour)
            blend(canvas, mask, (left + 2, top), bgr(text_colour_on(label.colour)))


def blend(
    canvas: np.ndarray, mask: np.ndarray, corner: tuple[int, int], colour: tuple[int, int, int]
) -> None:
    """Blend a text mask into a BGR canvas at `corner` (x, y), cut off at the edges."""
    left, top = corner
    place = canvas[top : top + mask.shape[0], left : left + mask.shape[1]]
    cover = mask[: place.shape[0], : place.shape[1], None].astype(np.float32) / 255
    place[:] = np.rint(place * (1 - cover) + np.array(colour, np.float32) * cover)
