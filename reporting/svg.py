"""Small charts as SVG for a page: lines and histograms, legible from a phone to a wide screen."""

from __future__ import annotations

import html
import math
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NewType

import numpy as np

from reporting.colours import ACCENT, INK, LINE, MUTED

Markup = NewType("Markup", str)
"""HTML or SVG in which every foreign text is escaped already."""

WIDTH, HEIGHT = 360, 240
LEFT, RIGHT, TOP, BOTTOM = 46, 10, 30, 40
MOST_POINTS = 240


@dataclass(frozen=True)
class Series:
    """One line of a chart: y over x, both [n]; values that are not finite leave a gap.

    Without a `name` it is drawn but not listed. `title` is shown under the pointer.
    """

    x: Sequence[float] | np.ndarray
    y: Sequence[float] | np.ndarray
    colour: str
    name: str = ""
    width: float = 1.8
    title: str = ""


def clean(text: object) -> str:
    """Foreign text made safe for a page: escaped, and only characters that UTF-8 and HTML allow."""
    known = str(text).encode("utf-8", "replace").decode("utf-8")
    return html.escape("".join("�" if _control(letter) else letter for letter in known))


def _control(letter: str) -> bool:
    return unicodedata.category(letter) == "Cc" and letter not in "\t\n"


def line_chart(
    series: Sequence[Series],
    *,
    title: str,
    x_label: str,
    y_label: str = "",
    y_range: tuple[float, float] | None = None,
    whole_x: bool = False,
) -> Markup:
    """Lines over a common axis; with no finite point at all an empty frame that says so.

    `whole_x`: x counts something, so no fraction stands below the axis.
    """
    xs = _finite(one.x for one in series)
    ys = _finite(one.y for one in series)
    x_range = (float(xs.min()), float(xs.max())) if len(xs) else (0.0, 1.0)
    if x_range[0] == x_range[1]:  # a single epoch stands in the middle
        x_range = (x_range[0] - 0.5, x_range[1] + 0.5)
    bounds = y_range or _padded(ys)
    frame = _Frame(x_range, bounds)
    parts = [frame.axes(x_label, y_label, whole_x=whole_x)]
    if not len(xs) or not len(ys):
        parts.append(_empty())
    for one in series:
        points = frame.path(np.asarray(one.x, float), np.asarray(one.y, float))
        if points:
            hint = f"<title>{clean(one.title or one.name)}</title>" if one.title or one.name else ""
            parts.append(
                f'<path d="{points}" fill="none" stroke="{one.colour}" '
                f'stroke-width="{one.width}" stroke-linejoin="round">{hint}</path>'
            )
    return _chart(title, parts, [(one.name, one.colour) for one in series if one.name])


def histogram(
    counts: Sequence[int] | np.ndarray,
    edges: Sequence[float] | np.ndarray,
    *,
    title: str,
    x_label: str,
    y_label: str,
) -> Markup:
    """Bars of `counts` [k] between `edges` [k + 1]."""
    heights, borders = np.asarray(counts, float), np.asarray(edges, float)
    top = float(heights.max()) if len(heights) and heights.max() > 0 else 1.0
    frame = _Frame((float(borders[0]), float(borders[-1])), (0.0, top * 1.05))
    parts = [frame.axes(x_label, y_label)]
    if not heights.any():
        parts.append(_empty())
    for height, low, high in zip(heights, borders[:-1], borders[1:], strict=True):
        if height:
            left, right = frame.x(low), frame.x(high)
            y = frame.y(height)
            parts.append(
                f'<rect x="{left + 0.5:.1f}" y="{y:.1f}" width="{max(right - left - 1, 1):.1f}" '
                f'height="{HEIGHT - BOTTOM - y:.1f}" fill="{ACCENT}">'
                f"<title>{low:g} to {high:g}: {height:g}</title></rect>"
            )
    return _chart(title, parts, [])


def ticks(low: float, high: float, wanted: int = 5, *, whole: bool = False) -> list[float]:
    """Round numbers from `low` to `high`, about `wanted` of them; `whole`: no fractions."""
    if not high > low:
        return [low]
    raw = (high - low) / max(wanted, 1)
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * m for m in (1, 2, 2.5, 5, 10) if power * m >= raw * 0.999)
    step = max(round(step), 1) if whole else step
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [round(number * step, 12) for number in range(first, last + 1)]


@dataclass(frozen=True)
class _Frame:
    """Where numbers lie on the drawing."""

    x_range: tuple[float, float]
    y_range: tuple[float, float]

    def x(self, value: float) -> float:
        low, high = self.x_range
        return LEFT + (value - low) / ((high - low) or 1.0) * (WIDTH - LEFT - RIGHT)

    def y(self, value: float) -> float:
        low, high = self.y_range
        share = (value - low) / ((high - low) or 1.0)
        return HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM)

    def axes(self, x_label: str, y_label: str, *, whole_x: bool = False) -> str:
        """Grid lines, numbers and the names of the axes."""
        parts = []
        floor = HEIGHT - BOTTOM
        for value in ticks(*self.y_range):
            y = self.y(value)
            parts.append(
                f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}" '
                f'stroke="{LINE}"/><text x="{LEFT - 6}" y="{y + 4:.1f}" '
                f'text-anchor="end">{value:g}</text>'
            )
        for value in ticks(*self.x_range, whole=whole_x):
            parts.append(
                f'<text x="{self.x(value):.1f}" y="{floor + 16}" '
                f'text-anchor="middle">{value:g}</text>'
            )
        parts.append(
            f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{floor}" y2="{floor}" stroke="{MUTED}"/>'
        )
        parts.append(
            f'<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 6}" text-anchor="middle">'
            f"{clean(x_label)}</text>"
        )
        if y_label:
            middle = (TOP + floor) / 2
            parts.append(
                f'<text transform="translate(10 {middle}) rotate(-90)" text-anchor="middle">'
                f"{clean(y_label)}</text>"
            )
        return "".join(parts)

    def path(self, xs: np.ndarray, ys: np.ndarray) -> str:
        """SVG path data; a new piece after every gap, no more points than can be seen."""
        if len(xs) > MOST_POINTS:
            chosen = np.unique(np.linspace(0, len(xs) - 1, MOST_POINTS).round().astype(int))
            xs, ys = xs[chosen], ys[chosen]
        pieces, pen_down = [], False
        for x, y in zip(xs.tolist(), ys.tolist(), strict=True):
            if not (math.isfinite(x) and math.isfinite(y)):
                pen_down = False
                continue
            inside = min(max(y, self.y_range[0]), self.y_range[1])
            pieces.append(f"{'L' if pen_down else 'M'}{self.x(x):.1f} {self.y(inside):.1f}")
            pen_down = True
        if len(pieces) == 1:  # a single point: a dash that can be seen
            pieces.append("m-4 0h8")
        return "".join(pieces)


def _finite(columns: object) -> np.ndarray:
    parts = [np.asarray(column, float).ravel() for column in columns]  # type: ignore[attr-defined]
    values = np.concatenate(parts) if parts else np.zeros(0)
    return values[np.isfinite(values)]


def _padded(values: np.ndarray) -> tuple[float, float]:
    if not len(values):
        return 0.0, 1.0
    low, high = min(float(values.min()), 0.0), float(values.max())
    return low, high + ((high - low) * 0.05 or 1.0)


def _empty() -> str:
    x, y = (LEFT + WIDTH - RIGHT) / 2, (TOP + HEIGHT - BOTTOM) / 2
    return f'<text x="{x}" y="{y}" text-anchor="middle">nothing to show</text>'


def _chart(title: str, parts: Sequence[str], legend: Sequence[tuple[str, str]]) -> Markup:
    keys = "".join(
        f'<span><i style="background:{colour}"></i>{clean(name)}</span>' for name, colour in legend
    )
    listed = f'<div class="legend">{keys}</div>' if keys else ""
    return Markup(
        f'<figure class="chart"><svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="{clean(title)}"><g font-size="11" fill="{MUTED}">'
        f'<text x="{LEFT}" y="16" font-size="13" font-weight="600" fill="{INK}">{clean(title)}'
        f"</text>{''.join(parts)}</g></svg>{listed}</figure>"
    )
