"""Tiles of an image: how it is split, and one prediction of all of them, in any order."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from data.stream import DecodedImage
from inference.predictions import Prediction, image_rows, merge_tiles, split_into_tiles
from ops.letterbox import Letterbox, boxes_to_original, plan_letterbox
from ops.nms import NmsConfig
from ops.tiling import Tiling, Window

SIZE = (100, 180)
WINDOWS = (Window(0, 0, 180, 100), Window(0, 0, 100, 100), Window(80, 0, 180, 100))
ROWS = (
    (71.0, 20.0, 119.0, 41.0, 0.5, 0.0),
    (70.0, 20.0, 100.0, 40.0, 0.9, 0.0),
    (80.0, 20.0, 120.0, 40.0, 0.6, 0.0),
)
TILING = Tiling(64, 0.1)


def plan(size: tuple[int, int]) -> Letterbox:
    return plan_letterbox(size, (64, 64), minimal=True)


def decoded(size: tuple[int, int]) -> DecodedImage:
    generator = np.random.default_rng(0)
    return DecodedImage(3, "a.png", generator.integers(0, 255, (*size, 3), np.uint8))


@pytest.mark.parametrize(("size", "tiling"), [((50, 90), None), ((50, 64), TILING)])
def test_an_image_that_is_not_split_keeps_its_pixels(
    size: tuple[int, int], tiling: Tiling | None
) -> None:
    (tile,) = split_into_tiles(decoded(size), tiling, plan)
    assert (tile.blank.window, tile.blank.tiles) == (None, 1)
    assert tile.picture.shape == (*tile.letterbox.resized, 3)


def test_a_large_image_comes_whole_and_in_tiles_that_hold_nothing_of_it() -> None:
    image = decoded((64, 120))
    whole, left, right = split_into_tiles(image, TILING, plan)
    windows = [(0, 0, 120, 64), (0, 0, 64, 64), (56, 0, 120, 64)]
    assert [tile.blank.window for tile in (whole, left, right)] == windows
    assert image.image is not None
    for tile in (whole, left, right):
        assert (tile.blank.tiles, tile.blank.size) == (3, (64, 120))
        assert not np.shares_memory(tile.picture, image.image)
    # A tile of the network's size is not resampled.
    np.testing.assert_array_equal(right.picture, image.image[:, 56:])
    assert whole.shape == (64, 64)  # 34 x 64, padded to a multiple of 32


def test_boxes_are_in_pixels_of_the_image() -> None:
    _, _, right = split_into_tiles(decoded((64, 120)), TILING, plan, shard=2)
    found, blank = np.array([[4, 5, 20, 30, 0.9, 1]], np.float32), right.blank
    places = [(right.letterbox, blank.window), (plan((32, 64)), None)]
    first, second = image_rows([found, found[:0]], places)
    np.testing.assert_allclose(first, [[60, 5, 76, 30, 0.9, 1]])
    assert second.shape == (0, 6)
    assert (blank.position, blank.path, blank.size, blank.shard) == (3, "a.png", (64, 120), 2)
    assert found[0, 0] == 4  # the argument is not changed


def test_boxes_of_a_batch_are_those_of_its_images_one_by_one() -> None:
    """To the last bit, clipped to each image."""
    generator = torch.manual_seed(0)
    plans = [plan(size) for size in ((50, 90), (64, 64), (7, 200), (133, 31))]
    rows = [torch.rand(n, 6, generator=generator) * 90 - 10 for n in (5, 0, 40, 17)]
    found = image_rows([one.numpy() for one in rows], [(one, None) for one in plans])
    for own, one, letterbox in zip(found, rows, plans, strict=True):
        np.testing.assert_array_equal(own, boxes_to_original(one, letterbox).numpy())


def test_an_unreadable_image_has_no_shape() -> None:
    (tile,) = split_into_tiles(DecodedImage(0, "b.png", None, "cut off"), TILING, plan)
    assert tile.shape is None
    found = tile.blank
    assert (found.error, found.size, len(found.detections)) == ("cut off", None, 0)


def tile_of(position: int, number: int) -> Prediction:
    rows = np.array([ROWS[number]], np.float32)
    return Prediction(position, f"{position}.png", SIZE, rows, window=WINDOWS[number], tiles=3)


def merged(tiles: list[Prediction]) -> list[Prediction]:
    return list(merge_tiles(tiles, NmsConfig(max_detections=100)))


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_the_order_of_the_tiles_does_not_matter(order: tuple[int, ...]) -> None:
    (whole,) = merged([tile_of(0, number) for number in order])
    np.testing.assert_allclose(whole.detections, [[70, 20, 120, 40, 0.9, 0]])
    assert (whole.window, whole.tiles, whole.size) == (None, 1, SIZE)


def test_images_come_as_they_are_completed() -> None:
    plain = Prediction(2, "2.png", (10, 10))
    bad = Prediction(3, "3.png", None, error="cut off")
    tiles = [tile_of(0, 0), tile_of(1, 0), plain, tile_of(1, 1), tile_of(1, 2), bad, tile_of(0, 2)]
    found = merged(tiles)
    assert [prediction.position for prediction in found] == [2, 1, 3]  # 0 misses a tile
    assert found[0] is plain
    assert found[2] is bad
