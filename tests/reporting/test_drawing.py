from __future__ import annotations

import numpy as np
import pytest

from reporting.drawing import (
    Tile,
    caption,
    colour_of,
    draw_batch,
    draw_boxes,
    label_of,
    sheet,
    tile,
)


def test_boxes_are_drawn_on_a_copy() -> None:
    image = np.full((60, 80, 3), 255, np.uint8)
    drawn = draw_boxes(image, np.array([[10.4, 20.0, 50.0, 40.0]]), np.array([1]), ("a", "b"))
    assert (image == 255).all()
    np.testing.assert_allclose(drawn[40, 30].astype(int), colour_of(1), atol=40)
    assert drawn.shape == image.shape


def test_no_boxes_leave_the_picture_as_it_is() -> None:
    image = np.full((20, 20, 3), 7, np.uint8)
    none = draw_boxes(image, np.zeros((0, 4)), np.zeros(0, int), ())
    assert (none == image).all()


def test_names_outside_ascii_become_class_numbers() -> None:
    assert label_of(1, ("cell", "细胞")) == "class 1"
    assert label_of(0, ("cell", "细胞")) == "cell"
    assert label_of(9, ("cell",)) == "class 9"


def test_tiles_of_different_sizes_share_a_sheet() -> None:
    sheet = tile(
        [np.zeros((10, 20, 3), np.uint8), np.zeros((30, 5, 3), np.uint8)], columns=2, gap=2
    )
    assert sheet.shape == (34, 46, 3)
    assert tile([]).ndim == 3


@pytest.mark.parametrize("width", [80, 120, 400])
def test_a_caption_fits_its_image(width: int) -> None:
    """Its end is never cut off: right of it the ground shows."""
    text = "12  a-rather-long-name-of-an-image.jpg  0.8531"
    strip = caption(np.zeros((10, width, 3), np.uint8), text)[:20]
    assert (strip[:, -4:] == strip[0, 0]).all()
    assert (strip[:, : width // 2] != strip[0, 0]).any()


def test_a_caption_stands_above() -> None:
    assert caption(np.zeros((10, 90, 3), np.uint8), "score").shape == (30, 90, 3)


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        pytest.param("a.jpg: 0.5", 1, id="fits"),
        pytest.param("a-long-name-of-an-image.jpg: score 0.5, IoU 0.6", 2, id="name and figures"),
        pytest.param("a-long-name-of-an-image-without-figures.jpg", 1, id="nothing to part"),
    ],
)
def test_all_captions_of_a_sheet_have_the_lines_of_the_longest(text: str, lines: int) -> None:
    """So that pictures of one row stand at one height; both lines hold letters."""
    picture = np.zeros((10, 160, 3), np.uint8)
    drawn = sheet([Tile(picture, text), Tile(picture, "b")])
    assert drawn.shape[0] == 6 + 20 * lines + 10 + 6
    strip = drawn[6:-16, 6:166]
    for number in range(lines):
        line = strip[20 * number : 20 * number + 20]
        assert (line != strip[0, 0]).any()
        assert (line[:, -4:] == strip[0, 0]).all()


def test_a_batch_shows_its_targets() -> None:
    images = np.full((2, 3, 64, 64), 200, np.uint8)
    targets = np.array([[1, 0, 0.5, 0.5, 0.5, 0.5]], np.float32)
    sheet = draw_batch(images, targets, ("cell",))
    first, second = sheet[6:70, 6:70], sheet[6:70, 76:140]
    assert (first == 200).all()
    np.testing.assert_allclose(second[48, 32].astype(int), colour_of(0), atol=40)
