from __future__ import annotations

import numpy as np
import pytest

from reporting.lettering import drawable, label_of, labels_of, shortened, text_mask


@pytest.mark.parametrize(
    ("name", "label"),
    [
        pytest.param("cell", "cell", id="ascii"),
        pytest.param("Größe", "Größe", id="latin"),
        pytest.param("клетка", "клетка", id="cyrillic"),
        pytest.param("细胞", "class 0", id="chinese-has-no-glyphs"),
        pytest.param("a 细", "class 0", id="one-letter-without-glyph"),
        pytest.param("خلية", "class 0", id="right-to-left"),
        pytest.param("bad\udce9", "class 0", id="half-a-surrogate"),
        pytest.param("a\x00", "class 0", id="control-character"),
        pytest.param("two\nlines", "two lines", id="line-break"),
        pytest.param("", "class 0", id="empty"),
        pytest.param("x" * 60, "x" * 13 + "…" + "x" * 14, id="too-long"),
    ],
)
def test_labels(name: str, label: str) -> None:
    assert label_of(0, (name,)) == label
    assert drawable(label)
    assert text_mask(label, 12).max() > 100


def test_numbers_without_names() -> None:
    assert label_of(3, ("a",)) == "class 3"
    assert labels_of(("a", "细")) == ["a", "class 1"]


def test_shortening_keeps_both_ends() -> None:
    assert shortened("abcdefghij", 7) == "abc…hij"
    assert shortened("abc", 7) == "abc"


def test_lines_of_one_size_have_one_height() -> None:
    heights = {text_mask(text, 14).shape[0] for text in ("a", "Ag", "Éj", ".")}
    assert len(heights) == 1
    assert text_mask("aaaa", 14).shape[1] > text_mask("a", 14).shape[1]


def test_the_ink_is_where_the_letter_is() -> None:
    mask = text_mask("l", 40)
    column = mask.max(axis=0)
    assert np.count_nonzero(column > 128) <= 6  # one thin stroke
    assert mask.max() == 255
