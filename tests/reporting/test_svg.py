from __future__ import annotations

import re

import numpy as np
import pytest

from reporting.svg import (
    BOTTOM,
    HEIGHT,
    LEFT,
    RIGHT,
    TOP,
    WIDTH,
    Series,
    histogram,
    line_chart,
    ticks,
)
from tests.reporting.page_reader import Reader


def parsed(markup: str) -> Reader:
    reader = Reader()
    reader.feed(markup)
    assert not reader.open
    return reader


def points(markup: str) -> list[list[tuple[float, float]]]:
    """The pieces of every path, as points."""
    return [
        [(float(x), float(y)) for x, y in re.findall(r"[ML]([-\d.]+) ([-\d.]+)", piece)]
        for path in re.findall(r'<path d="([^"]*)"', markup)
        for piece in re.split(r"(?=M)", path)
        if piece
    ]


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        pytest.param(0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1], id="unit"),
        pytest.param(0, 0.07, [0, 0.02, 0.04, 0.06], id="small"),
        pytest.param(1, 100, [20, 40, 60, 80, 100], id="epochs"),
        pytest.param(3, 3, [3], id="one-value"),
        pytest.param(-1, 1, [-1, -0.5, 0, 0.5, 1], id="through-zero"),
    ],
)
def test_ticks_are_round(low: float, high: float, expected: list[float]) -> None:
    assert ticks(low, high) == pytest.approx(expected)


def test_what_is_counted_has_no_fractions() -> None:
    assert ticks(1, 3, whole=True) == [1, 2, 3]
    assert ticks(1, 300, whole=True) == [100, 200, 300]


def test_a_line_goes_from_corner_to_corner() -> None:
    markup = line_chart(
        [Series([1, 2, 3], [0.0, 0.5, 1.0], "#112233", "a")],
        title="t",
        x_label="x",
        y_range=(0.0, 1.0),
    )
    assert points(markup) == [
        [
            (LEFT, HEIGHT - BOTTOM),
            (pytest.approx((LEFT + WIDTH - RIGHT) / 2), pytest.approx((TOP + HEIGHT - BOTTOM) / 2)),
            (WIDTH - RIGHT, TOP),
        ]
    ]


def test_a_gap_where_there_is_no_number() -> None:
    series = Series([0, 1, 2, 3, 4], [1, 2, np.nan, np.inf, 3], "#112233")
    pieces = points(line_chart([series], title="t", x_label="x"))
    assert [len(piece) for piece in pieces] == [2, 1]
    assert np.isfinite(np.concatenate(pieces)).all()


def test_a_single_epoch_can_be_seen() -> None:
    markup = line_chart([Series([1], [0.3], "#112233")], title="t", x_label="x")
    assert re.search(r'd="M[\d.]+ [\d.]+m-4 0h8"', markup)
    assert f">{1:g}</text>" in markup


@pytest.mark.parametrize(
    "series",
    [
        pytest.param([], id="no-line"),
        pytest.param([Series([], [], "#112233", "a")], id="no-point"),
        pytest.param([Series([1, 2], [np.nan, np.nan], "#112233", "a")], id="no-number"),
    ],
)
def test_nothing_is_said_to_be_nothing(series: list[Series]) -> None:
    markup = line_chart(series, title="t", x_label="x")
    assert "nothing to show" in parsed(markup).text


def test_names_are_escaped() -> None:
    evil = '<script>&"'
    markup = line_chart([Series([1, 2], [1, 2], "#112233", evil)], title=evil, x_label=evil)
    read = parsed(markup)
    assert "script" not in read.tags
    assert read.text.count(evil) == 4  # title, axis, legend, under the pointer


def test_long_lines_keep_their_ends() -> None:
    x = np.linspace(0, 1, 10_000)
    (line,) = points(line_chart([Series(x, x, "#112233")], title="t", x_label="x"))
    assert len(line) <= 240
    assert line[0][0] == LEFT
    assert line[-1][0] == WIDTH - RIGHT


def test_bars_are_as_high_as_their_counts() -> None:
    markup = histogram([1, 0, 4], [0, 1, 2, 3], title="t", x_label="x", y_label="y")
    heights = [float(h) for h in re.findall(r'<rect [^>]*height="([\d.]+)"', markup)]
    assert len(heights) == 2
    assert heights[1] == pytest.approx(4 * heights[0], rel=0.01)
    assert (
        "nothing to show"
        in parsed(histogram([0, 0], [0, 1, 2], title="t", x_label="x", y_label="y")).text
    )
