"""Warping the part of the canvas that is seen agrees with warping the whole canvas."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from data.augmentations import AffineParams, affine_matrix
from data.mosaic import Tile, mosaic_tiles, nine_tiles, render, single_tile, transform_boxes
from ops.letterbox import PAD_VALUE

SIDE = 64


def smooth_image(height: int, width: int, seed: int) -> np.ndarray:
    """An image without pixel noise, so that a shift of a pixel changes it by a few levels."""
    coarse = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)


def canvas_procedure(images, tiles, matrix, output, canvas_side) -> np.ndarray:
    """The literal procedure: paste all tiles on a canvas, then warp the canvas."""
    canvas = np.full((canvas_side, canvas_side, 3), PAD_VALUE, np.uint8)
    for source, tile in zip(images, tiles, strict=True):
        x1, y1, x2, y2 = tile.canvas
        u1, v1, u2, v2 = tile.crop
        canvas[y1:y2, x1:x2] = source[v1:v2, u1:u2]
    size = (output[1], output[0])
    fill = (PAD_VALUE,) * 3
    if matrix[2, 0] or matrix[2, 1]:
        return cv2.warpPerspective(canvas, matrix, size, borderValue=fill)
    return cv2.warpAffine(canvas, matrix[:2], size, borderValue=fill)


FOUR_SIZES = [(96, 128), (128, 70), (60, 128), (128, 128)]
VIEWS = [
    pytest.param(AffineParams(), id="crop"),
    pytest.param(AffineParams(scale=0.53, translate_x=0.42, translate_y=0.58), id="smaller"),
    pytest.param(AffineParams(scale=1.47, translate_x=0.6, translate_y=0.45), id="larger"),
    pytest.param(AffineParams(degrees=20, scale=0.8), id="rotated"),
    pytest.param(AffineParams(degrees=-7, scale=1.2, shear_x=8, shear_y=-5), id="sheared"),
    pytest.param(AffineParams(perspective_x=0.0006, perspective_y=-0.0008), id="perspective"),
    pytest.param(
        AffineParams(degrees=12, perspective_x=0.001, shear_x=3, translate_x=0.4), id="all at once"
    ),
]


@pytest.mark.parametrize("centre", [(70, 150), (128, 128), (190, 100)])
@pytest.mark.parametrize("params", VIEWS)
def test_equals_warping_the_whole_canvas(params: AffineParams, centre: tuple[int, int]) -> None:
    images = [smooth_image(*size, seed) for seed, size in enumerate(FOUR_SIZES)]
    tiles = mosaic_tiles(FOUR_SIZES, centre, 128)
    matrix = affine_matrix(params, (256, 256), (128, 128))
    got = render(images, tiles, matrix, (128, 128))[..., :3].astype(int)
    expected = canvas_procedure(images, tiles, matrix, (128, 128), 256).astype(int)
    # OpenCV may round a position to another 1/32 pixel when it is counted from another corner.
    difference = np.abs(got - expected)
    assert difference.max() <= 8
    assert (difference <= 1).mean() > 0.98


def test_output_outside_all_images_is_grey() -> None:
    far = AffineParams(translate_x=5)
    matrix = affine_matrix(far, (20, 20), (20, 20))
    image = render(
        [np.zeros((20, 20, 3), np.uint8)], [single_tile((20, 20), (20, 20))], matrix, (20, 20)
    )
    assert (image == PAD_VALUE).all()


def test_mosaic_tiles_touch_the_centre_and_crop_what_sticks_out() -> None:
    """By hand: side 10, so a canvas of 20; centre y 5, x 12."""
    top_left, top_right, bottom_left, bottom_right = mosaic_tiles([(8, 10)] * 4, (5, 12), 10)
    assert top_left == Tile((2, 0, 12, 5), (0, 3, 10, 8))
    assert top_right == Tile((12, 0, 20, 5), (0, 3, 8, 8))
    assert bottom_left == Tile((2, 5, 12, 13), (0, 0, 10, 8))
    assert bottom_right == Tile((12, 5, 20, 13), (0, 0, 8, 8))
    assert top_left.offset == (2, -3)


@pytest.mark.parametrize(
    ("size", "corner"),
    [((64, 64), (0, 0)), ((64, 31), (16, 0)), ((30, 64), (0, 17)), ((61, 64), (0, 1))],
)
def test_single_tile_lies_in_the_middle(size: tuple[int, int], corner: tuple[int, int]) -> None:
    tile = single_tile(size, (64, 64))
    assert tile.canvas == (*corner, corner[0] + size[1], corner[1] + size[0])


class TestTransformBoxes:
    def test_identity_clips(self) -> None:
        boxes = np.array([[-5.0, 2, 30, 40], [1, 1, 2, 2]])
        got = transform_boxes(boxes, np.eye(3), (20, 25))
        np.testing.assert_allclose(got, [[0, 2, 25, 20], [1, 1, 2, 2]])

    def test_quarter_turn_encloses(self) -> None:
        turn = np.array([[0.0, 1, 0], [-1, 0, 20], [0, 0, 1]])
        got = transform_boxes(np.array([[2.0, 3, 6, 4]]), turn, (20, 20))
        np.testing.assert_allclose(got, [[3, 14, 4, 18]])

    def test_box_behind_the_viewer_vanishes(self) -> None:
        matrix = np.array([[1.0, 0, 0], [0, 1, 0], [-0.1, 0, 1]])
        got = transform_boxes(np.array([[5.0, 0, 15, 5], [1, 1, 2, 2]]), matrix, (50, 50))
        assert (got[0] == 0).all()
        assert (got[1, 2:] > got[1, :2]).all()


@pytest.mark.parametrize("name", ["square", "mixed"])
def test_placement_and_pixels_of_recorded_mosaics(reference, name: str) -> None:
    """Recorded v7.0 mosaics: placement, labels on the canvas, output pixels exact."""
    meta, arrays = reference
    if f"mosaic.{name}.loaded0" not in arrays:
        pytest.skip("not in the extract")
    for case in meta["mosaic"][name]["cases"]:
        key = f"mosaic.{name}.{case['case']}"
        order = case["tile_indices_tl_tr_bl_br"]
        images = [arrays[f"mosaic.{name}.loaded{index}"] for index in order]
        sizes = [source.shape[:2] for source in images]
        tiles = mosaic_tiles(sizes, tuple(case["yc_xc"]), SIDE)
        params = AffineParams(*(value for _, _, value in case["perspective_draws"]))
        matrix = affine_matrix(params, (2 * SIDE, 2 * SIDE), (SIDE, SIDE))
        np.testing.assert_array_equal(matrix, arrays[f"{key}.M"])
        image = render(images, tiles, matrix, (SIDE, SIDE))[..., :3]
        np.testing.assert_array_equal(image, arrays[f"{key}.image"])
        if f"{key}.canvas" in arrays:
            canvas = render(images, tiles, np.eye(3), (2 * SIDE, 2 * SIDE))[..., :3]
            np.testing.assert_array_equal(canvas, arrays[f"{key}.canvas"])


def test_pixels_of_recorded_views(reference) -> None:
    """Recorded v7.0 views of one image: within 3 levels (OpenCV versions differ by as much)."""
    meta, arrays = reference
    checked = 0
    for name, case in meta["random_perspective"].items():
        key = f"rp.{name}"
        if f"{key}.image" not in arrays:
            continue
        height, width = case["in_hw"]
        whole = Tile((0, 0, width, height), (0, 0, width, height))
        got = render([arrays[f"{key}.image"]], [whole], arrays[f"{key}.M"], tuple(case["out_hw"]))
        difference = np.abs(got[..., :3].astype(int) - arrays[f"{key}.out_image"])
        assert difference.max() <= (0 if name in ("identity", "pure_crop") else 3)
        checked += 1
    assert checked


NINE_HEIGHTS = (60, 64, 30, 50, 64, 45, 55, 40, 9)
NINE_WIDTHS = (52, 40, 64, 61, 20, 38, 47, 33, 64)
NINE_SIZES = list(zip(NINE_HEIGHTS, NINE_WIDTHS, strict=True))


def paste_nine(images, side: int) -> tuple[np.ndarray, list[tuple[int, int]]]:
    """The layout written out one image after another on the 3·side canvas; (x, y) of each."""
    canvas = np.full((5 * side, 5 * side, 3), PAD_VALUE, np.uint8)  # a side more on each side
    corners: list[tuple[int, int]] = []
    for place, source in enumerate(images):
        h, w = source.shape[:2]
        if place == 0:
            x, y = side, side
            middle = (h, w)
        elif place == 1:  # above the middle, left edges in line
            x, y = side, side - h
        elif place == 2:  # to the right of the one above
            x, y = corners[1][0] + images[1].shape[1], side - h
        elif place == 3:  # to the right of the middle, upper edges in line
            x, y = side + middle[1], side
        elif place == 4:  # below the one on the right
            x, y = side + middle[1], corners[3][1] + images[3].shape[0]
        elif place == 5:  # below the middle, right edges in line
            x, y = side + middle[1] - w, side + middle[0]
        elif place == 6:  # to the left of the one below
            x, y = corners[5][0] - w, side + middle[0]
        elif place == 7:  # to the left of the middle, lower edges in line
            x, y = side - w, side + middle[0] - h
        else:  # above the one on the left
            x, y = side - w, corners[7][1] - h
        corners.append((x, y))
        canvas[side + y : side + y + h, side + x : side + x + w] = source
    return canvas[side:-side, side:-side], corners


@pytest.mark.parametrize("corner", [(0, 0), (64, 64), (17, 40), (50, 3)])
@pytest.mark.parametrize("sizes", [NINE_SIZES, NINE_SIZES[::-1], [(64, 64)] * 9])
def test_nine_tiles_equal_pasting_one_by_one(
    sizes: list[tuple[int, int]], corner: tuple[int, int]
) -> None:
    images = [smooth_image(*size, seed) for seed, size in enumerate(sizes)]
    whole, corners = paste_nine(images, 64)
    y, x = corner
    tiles = nine_tiles(sizes, corner, 64)
    assert [tile.offset for tile in tiles] == [(left - x, top - y) for left, top in corners]
    got = render(images, tiles, np.eye(3), (128, 128))[..., :3]
    np.testing.assert_array_equal(got, whole[y : y + 128, x : x + 128])
