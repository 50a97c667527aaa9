"""Names as a picture can show them: one font, and a class number where it has no letters."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.ft2font import FT2Font
from PIL import Image, ImageDraw, ImageFont

LONGEST = 28
RIGHT_TO_LEFT = {"R", "AL", "AN"}


@lru_cache(maxsize=1)
def font_file() -> Path:
    """DejaVu Sans as matplotlib brings it: Latin, Greek, Cyrillic and more, but no CJK."""
    return Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"


@lru_cache(maxsize=1)
def _letters() -> frozenset[int]:
    return frozenset(FT2Font(str(font_file())).get_charmap())


def drawable(text: str) -> bool:
    """Whether every character has a glyph and runs from left to right."""
    return all(
        ord(letter) in _letters()
        and letter.isprintable()
        and unicodedata.bidirectional(letter) not in RIGHT_TO_LEFT
        for letter in text
    )


def shortened(text: str, longest: int = LONGEST) -> str:
    """`text` on one line, its middle left out where it is longer than `longest` characters."""
    flat = " ".join(text.split())
    if len(flat) <= longest:
        return flat
    head = (longest - 1) // 2
    return f"{flat[:head]}…{flat[len(flat) - (longest - 1 - head) :]}"


def label_of(class_index: int, class_names: Sequence[str]) -> str:
    """The name of a class as a picture can show it, or `class N`."""
    name = class_names[class_index] if 0 <= class_index < len(class_names) else ""
    flat = shortened(name)
    return flat if flat and drawable(flat) else f"class {class_index}"


def labels_of(class_names: Sequence[str]) -> list[str]:
    """`label_of` for every class."""
    return [label_of(number, class_names) for number in range(len(class_names))]


@lru_cache(maxsize=2048)
def text_mask(text: str, size: int) -> np.ndarray:
    """One line of text as coverage, uint8 [h, w]; h depends only on `size`, in pixels."""
    font = _font(size)
    ascent, descent = font.getmetrics()
    width = max(int(np.ceil(font.getlength(text))), 1)
    canvas = Image.new("L", (width, ascent + descent), 0)
    ImageDraw.Draw(canvas).text((0, 0), text, fill=255, font=font)
    mask = np.asarray(canvas, np.uint8)
    mask.setflags(write=False)
    return mask


@lru_cache(maxsize=32)
def _font(size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(str(font_file()), size)
