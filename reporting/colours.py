"""Colours that every eye can tell apart, for curves, boxes and pages alike."""

from __future__ import annotations

INK = "#1d2730"
MUTED = "#5b6873"
LINE = "#d9dfe4"
ACCENT = "#0b5c8e"
"""The one colour of a page beside ink; also what counts or is found."""
ALERT = "#d55e00"
"""What was missed."""

SERIES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7a5c00", "#6b6b6b")
"""Distinct for the colour-blind too: the set of Okabe and Ito ("Color Universal Design", 2008),
its yellow replaced by a brown that shows on white, its black by a grey."""


def series_colour(number: int) -> str:
    """The colour of the series or class `number`, as #rrggbb; they repeat after eight."""
    return SERIES[number % len(SERIES)]


def rgb(colour: str) -> tuple[int, int, int]:
    """#rrggbb as numbers from 0 to 255."""
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)


def bgr(colour: str) -> tuple[int, int, int]:
    """#rrggbb in OpenCV's order."""
    red, green, blue = rgb(colour)
    return blue, green, red


def ink_on(colour: str) -> str:
    """Black or white, whichever reads better on `colour` (relative luminance of WCAG 2)."""
    shares = (channel / 255 for channel in rgb(colour))
    linear = [s / 12.92 if s <= 0.04045 else ((s + 0.055) / 1.055) ** 2.4 for s in shares]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return "#000000" if luminance > 0.179 else "#ffffff"
