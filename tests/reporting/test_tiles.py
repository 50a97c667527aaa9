from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from reporting.drawing import ALERT, Label, bgr, series_colour
from reporting.tiles import (
    LINE,
    MOST_NAMED,
    NAMED_OF_A_CROWD,
    PARTNER,
    SHEET_SIDE,
    ImageName,
    Outline,
    Tile,
    annotated_tile,
    batch_tiles,
    contact_sheet,
    drawn,
    mark_deciding,
)


@pytest.mark.parametrize("side", [60, 480, 4000])
def test_lines_and_letters_have_one_size_on_a_sheet(side: int) -> None:
    """Of the same scene photographed with few and with many pixels."""
    corners = (side * 0.25, side * 0.5, side * 0.75, side * 0.875)
    label = Label("cell", (round(corners[0]), round(corners[1])), ALERT)
    image = np.zeros((side, side, 3), np.uint8)
    sheet = contact_sheet([Tile(image, "", [label], [Outline(corners, "#ffffff", 3)])])
    assert sheet.shape == (SHEET_SIDE + 16, SHEET_SIDE + 16, 3)
    inside = sheet[8:-8, 8:-8]
    assert (inside == 255).all(axis=2)[300:400, :240].sum(1).tolist() == [3] * 100
    height, width = (np.ptp(own) + 1 for own in np.nonzero((inside == bgr(ALERT)).all(axis=2)))
    assert (int(height), int(width)) == (19, 32)


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("a-long-name-of-an-image.jpg: score 0.5, IoU 0.6", 2),
        ("a-long-name-no-figures.jpg", 1),
        ("a.jpg: score 0.512, colour: IoU 0.62, divergence 0.31, distance 0.25", 3),
        ("x" * 200, 1),
        ("细胞.jpg: 2 labels", 2),
    ],
)
def test_captions_of_a_row_have_the_lines_of_the_longest(text: str, lines: int) -> None:
    """So that images of one row stand at one height; a caption is never cut off."""
    image = np.zeros((120, 480, 3), np.uint8)
    sheet = contact_sheet([Tile(image, text), Tile(image, "b")])
    assert sheet.shape[0] == 8 + LINE * lines + 120 + 8
    strip = sheet[8:-128, 8:488]
    for number in range(lines):
        line = strip[LINE * number : LINE * (number + 1)]
        assert (line != strip[0, 0]).any()
        assert (line[:, -4:] == strip[0, 0]).all()


def test_tiles_of_different_shapes_share_a_sheet() -> None:
    """A row is as high as its highest image."""
    flat, high = (Tile(np.zeros((*size, 3), np.uint8)) for size in ((10, 20), (30, 15)))
    assert contact_sheet([flat, high], columns=2, gap=2).shape == (484, 966, 3)
    assert contact_sheet([flat, high], columns=1, gap=2).shape == (2 + 242 + 482, 484, 3)
    assert contact_sheet([]).ndim == 3


def test_a_label_that_would_cover_another_one_gives_way_in_a_small_picture() -> None:
    """The last one of a line is beside the first, the third below it."""
    places = [(20, 100), (40, 104), (20, 160), (200, 100)]
    labels = [Label("cell 0.50", place, ALERT) for place in places]
    image = np.zeros((300, 400, 3), np.uint8)
    tile = Tile(image, labels=labels)
    assert tile.clear == [True, False, True, True]
    assert (drawn(tile) == drawn(replace(tile, labels=[labels[n] for n in (0, 2, 3)]))).all()
    edge = Tile(image, labels=[Label("cell 0.50", (x, 2), ALERT) for x in (390, 399)])
    assert edge.clear == [True, False]  # both are moved inside


def test_a_crowd_is_not_hidden_by_names() -> None:
    image, boxes = np.zeros((400, 600, 3), np.uint8), np.tile([[9.0, 9, 50, 50]], (20, 1))
    scores, classes = np.full(20, 0.5), np.zeros(20, int)
    few = annotated_tile(image, "", boxes[:MOST_NAMED], classes[:MOST_NAMED], ("cell",))
    assert [label.text for label in few.labels] == ["cell"] * MOST_NAMED
    classes[7:] = 1
    named = annotated_tile(image, "", boxes, classes, ("cell", "other"))
    assert [label.text for label in named.labels] == ["cell", "other"]
    assert {one.thickness for one in named.outlines} == {1}
    assert {one.thickness for one in few.outlines} == {2}
    scores[3], scores[15] = 0.3, 0.4
    scored = annotated_tile(image, "", boxes, classes, ("cell", "other"), scores)
    expected = ["cell 0.30", "other 0.40", *["0.50"] * 18]
    assert [label.text for label in scored.labels] == expected
    many = annotated_tile(image, "", boxes, classes, [f"class {n}" for n in range(80)])
    expected = ["class 0", "class 1", *["class 0"] * 6, *["class 1"] * 12]
    assert [label.text for label in many.labels] == expected


def test_a_small_picture_names_few_of_a_crowd() -> None:
    places = [(60 * n % 600, 60 + 40 * (n // 10)) for n in range(40)]
    labels = [Label("a", place, ALERT) for place in places]
    image = np.zeros((400, 600, 3), np.uint8)
    assert sum(Tile(image, labels=labels).clear) == NAMED_OF_A_CROWD
    assert all(Tile(image, labels=labels[:MOST_NAMED]).clear)


@pytest.mark.parametrize(
    ("file", "original", "short", "whole"),
    [
        ("8284681eef4440d3a1.jpg", "", "8284681eef4440d3a1.jpg", "8284681eef4440d3a1.jpg"),
        (f"{'8284681eef44' * 3}.jpg", "", "8284681eef44….jpg", f"{'8284681eef44' * 3}.jpg"),
        ("ab.jpg", "cat.jpg", "cat.jpg", "cat.jpg (ab.jpg)"),
        ("ab.jpg", "", "ab.jpg", "ab.jpg"),
        ("x" * 60, "", f"{'x' * 13}…{'x' * 14}", "x" * 60),
    ],
)
def test_a_name_in_a_caption(file: str, original: str, short: str, whole: str) -> None:
    """The part of a hash that is shown is found by searching for it."""
    path = f"/in/assets/{file}"
    name = ImageName.of(path, {path: original} if original else {})
    assert (name.short, name.whole) == (short, whole)


def test_a_batch_shows_its_targets() -> None:
    images = np.full((2, 3, 64, 64), 200, np.uint8)
    targets = np.array([[1, 0, 0.5, 0.5, 0.5, 0.5]], np.float32)
    first, second = batch_tiles(images, targets, ("cell",))
    assert (first.image == 200).all()
    assert first.outlines == []
    assert second.outlines == [Outline((16, 16, 48, 48), series_colour(0))]
    assert second.labels == [Label("cell", (16, 16), series_colour(0), "class 0")]


GREY = Tile(np.full((100, 120, 3), 90, np.uint8))


def test_the_boxes_that_decided_are_drawn_in_their_place() -> None:
    """At half the size: white from (20, 10), yellow from (60, 50)."""
    breakdown = {"view": "flip", "box": [40, 20, 80, 60], "partner_box": [120.0, 100, 200, 160]}
    marked = mark_deciding(GREY, breakdown, 0.5)
    image = drawn(marked, 120)
    assert image[20, 20].tolist() == [255, 255, 255]
    assert image[70, 60].tolist() == [0, 212, 255]
    assert image[20, 30].tolist() == [90, 90, 90]
    assert [(one.text, one.colour) for one in marked.labels] == [("flip", PARTNER)]
    for nothing in ({}, {"box": [float("nan")] * 4}, {"box": None}):
        assert mark_deciding(GREY, nothing, 1.0).outlines == []


def test_a_dashed_frame_has_gaps() -> None:
    frame = Outline((10, 10, 110, 80), "#ffffff", 1, dashed=True)
    for dashed, share in ((True, 0.55), (False, 1.0)):
        image = drawn(replace(GREY, outlines=[replace(frame, dashed=dashed)]), 120)
        assert (image[10, 10:110] == 255).all(axis=1).mean() == pytest.approx(share, abs=0.06)
