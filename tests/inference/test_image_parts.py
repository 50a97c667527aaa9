"""The parts of an image as network inputs: which there are, what they hold, and the way back."""

from __future__ import annotations

import numpy as np
import torch

from data.stream import DecodedImage
from inference.image_parts import split_into_tiles
from ops.letterbox import Letterbox, plan_letterbox
from ops.tiling import Tiling, Window


def plan(size: tuple[int, int]) -> Letterbox:
    return plan_letterbox(size, (64, 64), minimal=True)


def decoded(size: tuple[int, int]) -> DecodedImage:
    generator = np.random.default_rng(0)
    return DecodedImage(3, "a.png", generator.integers(0, 255, (*size, 3), np.uint8))


def test_without_tiling_an_image_is_one_part_and_keeps_its_pixels() -> None:
    (part,) = split_into_tiles(decoded((50, 90)), None, plan)
    assert part.window is None
    assert part.parts == 1
    assert part.decoded.image is not None
    assert part.letterboxed().shape == (*part.letterbox.shape, 3)


def test_a_small_image_is_one_part_with_tiling_too() -> None:
    (part,) = split_into_tiles(decoded((50, 64)), Tiling(64, 0.1), plan)
    assert part.window is None


def test_a_large_image_is_seen_whole_and_in_tiles_that_hold_nothing_of_it() -> None:
    image = decoded((64, 120))
    whole, left, right = split_into_tiles(image, Tiling(64, 0.1), plan)
    assert [p.window for p in (whole, left, right)] == [
        Window(0, 0, 120, 64),
        Window(0, 0, 64, 64),
        Window(56, 0, 120, 64),
    ]
    assert image.image is not None
    for part in (whole, left, right):
        assert part.parts == 3
        assert part.size == (64, 120)
        assert part.decoded.image is None
        assert part.boxed is not None
        assert not np.shares_memory(part.boxed, image.image)
    # A tile of the network's size is the picture itself.
    np.testing.assert_array_equal(right.letterboxed(), image.image[:, 56:, ::-1])
    assert whole.shape == (64, 64)  # 34 x 64, padded to a multiple of 32


def test_boxes_come_back_to_the_pixels_of_the_original() -> None:
    _, _, right = split_into_tiles(decoded((64, 120)), Tiling(64, 0.1), plan)
    rows = torch.tensor([[4.0, 5.0, 20.0, 30.0, 0.9, 1.0]])
    prediction = right.prediction(rows, None)
    np.testing.assert_allclose(prediction.detections, [[60, 5, 76, 30, 0.9, 1]])
    assert (prediction.position, prediction.path, prediction.size) == (3, "a.png", (64, 120))
    assert rows[0, 0] == 4  # the argument stays


def test_an_unreadable_image_is_one_part_without_a_shape() -> None:
    (part,) = split_into_tiles(DecodedImage(0, "b.png", None, "cut off"), Tiling(64, 0.1), plan)
    assert part.shape is None
    assert part.unreadable().error == "cut off"
