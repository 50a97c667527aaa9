"""Squares of a photograph: their pixels, their boxes, and the folder that they make."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from bench import crops
from tools.sources import SourceDataset, SourceImage, read_source


@pytest.fixture
def image(tmp_path: Path) -> SourceImage:
    """A picture of 70 x 100 pixels whose blue value is the column."""
    pixels = np.zeros((70, 100, 3), np.uint8)
    pixels[..., 0] = np.arange(100)
    path = tmp_path / "columns.png"
    assert cv2.imwrite(str(path), pixels)
    # Inside square 0; 6 of 10 columns in square 1; 4 of 10 in square 2; below all squares.
    boxes = [[2, 3, 12, 13], [26, 0, 36, 8], [56, 10, 66, 20], [0, 62, 20, 70]]
    return SourceImage(path, np.array(boxes, np.float64), np.array([0, 1, 2, 3]))


def test_boxes_belong_to_the_square_that_has_half_of_them(image: SourceImage) -> None:
    found = list(crops.squares(image, 30))
    assert [pixels.shape for pixels, _, _ in found] == [(30, 30, 3)] * 6
    assert [pixels[0, 0, 0] for pixels, _, _ in found] == [0, 30, 60] * 2
    assert [classes.tolist() for _, _, classes in found] == [[0], [1], [2], [], [], []]
    assert [boxes.tolist() for _, boxes, _ in found[:3]] == [
        [[2, 3, 12, 13]],
        [[0, 0, 6, 8]],
        [[0, 10, 6, 20]],
    ]


def test_a_folder_that_the_tools_read(
    drawn: SourceDataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = drawn.splits["train"][0].path.parents[1]
    name = drawn.class_names[1]
    arguments = ["--data", str(folder), "--out", str(tmp_path / "crops"), "--classes", name]
    crops.main([*arguments, "--side", "32"])
    told = capsys.readouterr().out
    made = read_source(tmp_path / "crops")
    assert made.class_names == (name,)
    for split, images in made.splits.items():
        whole = read_source(folder, [name]).splits[split]
        expected = [part for image in whole for part in crops.squares(image, 32)]
        assert len(images) == len(expected) > len(whole)
        objects = sum(len(boxes) for _, boxes, _ in expected)
        assert sum(len(image.boxes) for image in images) == objects
        assert f"{split}: {len(images)} squares" in told
    with pytest.raises(SystemExit):
        crops.main(arguments)
