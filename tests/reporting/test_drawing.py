from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import features

from reporting.drawing import (
    ACCENT,
    ALERT,
    INVENTED,
    SERIES,
    Label,
    bgr,
    draw_boxes,
    draw_labels,
    fit,
    font_for,
    series_colour,
    shorten,
    text_colour_on,
    text_mask,
)
from tests.reporting.font_example import write_font


def linear(colour: str) -> np.ndarray:
    share = np.array(bgr(colour)[::-1]) / 255
    return np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)


def test_text_contrasts_with_its_ground() -> None:
    """At least 4.5 to 1, as WCAG 2 asks for text."""
    for colour in (*SERIES, ACCENT, ALERT, INVENTED):
        pair = (colour, text_colour_on(colour))
        low, high = sorted(float(linear(one) @ (0.2126, 0.7152, 0.0722)) for one in pair)
        assert (high + 0.05) / (low + 0.05) >= 4.5, colour


@pytest.mark.parametrize(
    ("name", "found"),
    [
        pytest.param("Größe клетка", True, id="latin-and-cyrillic"),
        pytest.param("细胞", False, id="chinese"),
        pytest.param("a 细", False, id="one-character-missing"),
        pytest.param("خلية", features.check("raqm"), id="right-to-left"),
        pytest.param("bad\udce9", False, id="half-a-surrogate"),
        pytest.param("a\x00", False, id="control-character"),
    ],
)
def test_text_has_a_font_or_none(name: str, found: bool, fonts: Path) -> None:
    assert (font_for(name) is not None) == found


def test_names_are_drawn_in_a_font_of_the_machine(fonts: Path) -> None:
    """Broken files and fonts without the characters are passed over."""
    (fonts / "a.ttf").write_text("no font")
    write_font(fonts / "b-Regular.ttf", "血")
    font = write_font(fonts / "c.ttf", "细胞")
    assert font_for("细胞 0.95") == font
    mask = text_mask("细胞", 20)
    assert mask.shape[1] == 40  # two squares of 16 pixels, 4 apart
    assert (mask[:, 4:16].max(axis=0) == 255).all()


def test_scripts_of_several_fonts_stand_in_one_line(fonts: Path) -> None:
    """A character of no font is a question mark."""
    write_font(fonts / "a.ttf", "细")
    write_font(fonts / "b.ttf", "胞")
    mask = text_mask("细胞é", 20)
    letter = text_mask("é", 20).shape[1]
    assert abs(mask.shape[1] - 40 - letter) <= 1
    assert (text_mask("血", 20) == text_mask("?", 20)).all()


def test_a_class_without_a_font_is_drawn_by_its_number(fonts: Path) -> None:
    image, box = np.zeros((60, 200, 3), np.uint8), np.array([[10, 30, 90, 50]])
    named, numbered = (
        draw_boxes(image, box, np.array([0]), (name,), np.array([0.5]))
        for name in ("细胞", "class 0")
    )
    assert (named == numbered).all()


def test_long_names_are_shortened_in_the_middle() -> None:
    assert shorten("abcdefghij", 7) == "abc…hij"
    assert shorten("two\nlines", 20) == "two lines"


def test_boxes_are_drawn_on_a_copy() -> None:
    image = np.full((60, 80, 3), 255, np.uint8)
    drawn = draw_boxes(image, np.array([[10.4, 20.0, 50.0, 40.0]]), np.array([1]), ("a", "b"))
    assert (image == 255).all()
    np.testing.assert_allclose(drawn[40, 30].astype(int), bgr(series_colour(1)), atol=40)
    assert (draw_boxes(image, np.zeros((0, 4)), np.zeros(0, int), ()) == image).all()


@pytest.mark.parametrize("corner", [(-50, -50), (500, 500), (95, 2)])
def test_labels_stay_inside(corner: tuple[int, int]) -> None:
    canvas = np.full((40, 100, 3), 255, np.uint8)
    draw_labels(canvas, [Label("cell 0.5", corner, ALERT)])
    covered = (canvas == bgr(ALERT)).all(axis=2)
    assert covered.any(axis=0).sum() > 40
    assert covered.any(axis=1).sum() > 10


def test_images_are_shrunk_never_enlarged() -> None:
    assert fit(np.zeros((100, 50, 3), np.uint8), 40)[0].shape == (40, 20, 3)
    assert fit(np.zeros((1000, 1, 3), np.uint8), 40)[0].shape == (40, 1, 3)
    assert fit(np.zeros((10, 20, 3), np.uint8), 40)[1] == 1.0
