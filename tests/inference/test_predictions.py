"""Parts of images are put together whichever order they come in."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from inference.predictions import Prediction, TileMerger, merge_tiles
from ops.nms import NmsConfig
from ops.tiling import Window

SIZE = (100, 180)
WINDOWS = (Window(0, 0, 180, 100), Window(0, 0, 100, 100), Window(80, 0, 180, 100))
ROWS = (
    (71.0, 20.0, 119.0, 41.0, 0.5, 0.0),
    (70.0, 20.0, 100.0, 40.0, 0.9, 0.0),
    (80.0, 20.0, 120.0, 40.0, 0.6, 0.0),
)


def gathering() -> TileMerger:
    return TileMerger(NmsConfig(max_detections=100))


def part(position: int, number: int) -> Prediction:
    rows = np.array([ROWS[number]], np.float32)
    return Prediction(position, f"{position}.png", SIZE, rows, window=WINDOWS[number], parts=3)


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_the_order_of_the_parts_does_not_matter(order: tuple[int, ...]) -> None:
    (whole,) = merge_tiles([part(0, number) for number in order], gathering())
    np.testing.assert_allclose(whole.detections, [[70, 20, 120, 40, 0.9, 0]])
    assert (whole.window, whole.parts, whole.size) == (None, 1, SIZE)


def test_images_come_as_they_are_completed() -> None:
    plain = Prediction(2, "2.png", (10, 10))
    bad = Prediction(3, "3.png", None, error="cut off")
    parts = [part(0, 0), part(1, 0), plain, part(1, 1), part(1, 2), bad, part(0, 2), part(0, 1)]
    found = list(merge_tiles(parts, gathering()))
    assert [prediction.position for prediction in found] == [2, 1, 3, 0]
    assert found[0] is plain
    assert found[2] is bad


def test_an_image_with_missing_parts_stays_back() -> None:
    assert list(merge_tiles([part(0, 0), part(0, 1)], gathering())) == []
