"""Ark text: its columns; what is refused is among the cases of tests/reliability."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.formats.ark import parse_ark
from data.formats.base import AnnotationError
from tests.data.formats.annotation_example import CLASSES, HELMET, rows_of


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("0, 30, 41, 79, 104, -1.0", id="6-columns-1.2"),
        pytest.param("0, 30, 41, 79, 104, -1.0, 0.0", id="7-columns-2.x"),
        pytest.param("0.0, 30.0, 41.0, 79.0, 104.0,", id="floats-and-trailing-comma"),
    ],
)
def test_columns(text: str) -> None:
    assert rows_of(parse_ark(text, "a.txt", CLASSES)) == [HELMET]


BOX = st.tuples(st.integers(0, 1), *[st.integers(-50, 5000)] * 4)


@settings(max_examples=30, deadline=None)
@given(st.lists(BOX, max_size=5), st.sampled_from([", ", ",", "\t", "  "]))
def test_text_there_and_back(boxes: list[tuple[int, ...]], separator: str) -> None:
    text = "\n".join(separator.join(map(str, box)) for box in boxes)
    rows = rows_of(parse_ark(text, "a.txt", CLASSES))
    assert [(c, x1, y1, x2 - 1, y2 - 1) for c, x1, y1, x2, y2 in rows] == boxes


@settings(max_examples=40, deadline=None)
@given(st.text(max_size=40))
def test_any_text_is_read_or_refused(text: str) -> None:
    said = "a.txt line"
    try:
        parse_ark(text, "a.txt", CLASSES)
    except AnnotationError as error:
        said = str(error)
    assert "a.txt line" in said
