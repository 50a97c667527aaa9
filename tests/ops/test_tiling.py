"""Tiles cover their image, and what they cut comes out whole and once."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ops.nms import NmsConfig
from ops.tiling import Rows, Tiling, Window, cut_sides, merge_tile_detections, tile_windows


def merge(
    found: list[tuple[Window, Rows]], size: tuple[int, int], *, agnostic: bool = False
) -> Rows:
    config = NmsConfig(max_detections=1000, class_agnostic=agnostic)
    return merge_tile_detections(found, size, config)


def rows(*given: tuple[float, ...]) -> Rows:
    return np.array(given, np.float32).reshape(-1, 6)


@pytest.mark.parametrize(
    ("size", "tiling", "expected"),
    [
        ((100, 200), Tiling(200), []),
        ((100, 300), Tiling(200), [(0, 0, 200, 100), (100, 0, 300, 100)]),
        ((200, 361), Tiling(200), [(0, 0, 200, 200), (80, 0, 280, 200), (161, 0, 361, 200)]),
        ((400, 200), Tiling(200, 0.0), [(0, 0, 200, 200), (0, 200, 200, 400)]),
    ],
    ids=["fits", "lower than a tile", "one pixel more than two", "no overlap"],
)
def test_windows(size: tuple[int, int], tiling: Tiling, expected: list[tuple[int, ...]]) -> None:
    assert tile_windows(size, tiling) == expected


@settings(max_examples=60, deadline=None)
@given(
    st.tuples(st.integers(1, 900), st.integers(1, 900)),
    st.integers(32, 320),
    st.floats(0, 0.9),
    st.data(),
)
def test_whatever_is_smaller_than_the_overlap_lies_whole_in_a_tile(
    size: tuple[int, int], side: int, overlap: float, data: st.DataObject
) -> None:
    tiling = Tiling(side, overlap)
    windows = tile_windows(size, tiling)
    if not windows:
        assert max(size) <= side
        return
    assert all(
        w.left >= 0 and w.top >= 0 and w.right <= size[1] and w.bottom <= size[0] for w in windows
    )
    assert {(w.right - w.left, w.bottom - w.top) for w in windows} == {
        (min(side, size[1]), min(side, size[0]))
    }
    small = max(1, int(overlap * side))
    left = data.draw(st.integers(0, max(0, size[1] - small)))
    top = data.draw(st.integers(0, max(0, size[0] - small)))
    right, bottom = min(left + small, size[1]), min(top + small, size[0])
    assert any(
        w.left <= left and w.top <= top and w.right >= right and w.bottom >= bottom for w in windows
    )


def test_sides_are_cut_where_the_border_is_none_of_the_image() -> None:
    """A tile of 100 pixels in the middle of the upper edge: near its border is within 1 pixel."""
    boxes = rows(
        (100, 0, 150, 50, 1, 0),  # left border of the tile, upper edge of the image
        (101, 10, 199, 50, 1, 0),  # just near on both sides
        (102, 10, 198, 98, 1, 0),  # near nothing
        (120, 60, 200, 100, 1, 0),  # lower right corner
    )
    found = cut_sides(boxes[:, :4], Window(100, 0, 200, 100), (300, 300))
    assert found.tolist() == [[1, 0, 0, 0], [1, 0, 1, 0], [0, 0, 0, 0], [0, 0, 1, 1]]


SIZE = (100, 180)
WHOLE, LEFT, RIGHT = Window(0, 0, 180, 100), Window(0, 0, 100, 100), Window(80, 0, 180, 100)
HALF, OTHER_HALF = (70, 20, 100, 40, 0.9, 0), (80, 20, 120, 40, 0.6, 0)
"""An object on the seam as it is seen in the left tile and in the right one."""
BOTH = (70, 20, 120, 40, 0.9, 0)
LOWER, OTHER_CLASS = (80, 60, 120, 80, 0.6, 0), (80, 20, 120, 40, 0.6, 1)
SURE, SUSPICION = (71, 20, 119, 41, 0.5, 0), (71, 20, 150, 41, 0.01, 0)
INSIDE, AGAIN = (82, 20, 98, 40, 0.8, 0), (82, 20, 98, 40, 0.9, 0)
ENDS_LEFT, ENDS_RIGHT = (90, 20, 100, 40, 0.9, 0), (80, 20, 88, 40, 0.6, 0)
MERGED = {
    "two-halves-become-one-with-the-surer-row": ([], [HALF], [OTHER_HALF], [BOTH]),
    "a-fragment-yields-to-the-whole-though-it-is-surer": ([SURE], [HALF], [], [SURE]),
    "but-not-to-a-mere-suspicion": ([SUSPICION], [HALF], [], [HALF, SUSPICION]),
    "seen-whole-in-both-tiles": ([], [INSIDE], [AGAIN], [AGAIN]),
    "two-objects-at-different-heights": ([], [HALF], [LOWER], [HALF, LOWER]),
    "two-classes": ([], [HALF], [OTHER_CLASS], [HALF, OTHER_CLASS]),
    "neighbours-in-the-strip": ([], [ENDS_LEFT], [ENDS_RIGHT], [ENDS_LEFT, ENDS_RIGHT]),
    "all-empty": ([], [], [], []),
}


@pytest.mark.parametrize(("whole", "left", "right", "expected"), MERGED.values(), ids=MERGED)
def test_merging(whole: list, left: list, right: list, expected: list) -> None:
    found = [(WHOLE, rows(*whole)), (LEFT, rows(*left)), (RIGHT, rows(*right))]
    np.testing.assert_allclose(merge(found, SIZE), rows(*expected))


def test_classes_suppress_each_other_only_when_asked() -> None:
    found = [(WHOLE, rows((10, 10, 40, 40, 0.9, 0))), (LEFT, rows((10, 10, 40, 41, 0.8, 1)))]
    assert len(merge(found, SIZE)) == 2
    assert len(merge(found, SIZE, agnostic=True)) == 1


def test_far_corners_of_very_large_images_stay_exact() -> None:
    """The 7680 pixels that keep classes apart elsewhere are less than this image is wide."""
    size = (20000, 20000)
    whole = Window(0, 0, 20000, 20000)
    one, other = (100, 100, 150, 150, 0.9, 1), (7780, 7780, 7830, 7830, 0.8, 0)
    far = (19003, 19000, 19013, 19010, 0.7, 79)
    np.testing.assert_array_equal(
        merge([(whole, rows(one, other, far))], size), rows(one, other, far)
    )


def test_the_limit_keeps_the_surest() -> None:
    found = [(LEFT, rows((5, 5, 9, 9, 0.5, 0))), (RIGHT, rows((150, 5, 160, 9, 0.6, 0)))]
    kept = merge_tile_detections(found, SIZE, NmsConfig(max_detections=1))
    np.testing.assert_allclose(kept, rows((150, 5, 160, 9, 0.6, 0)))


def ideal_detections(window: Window, objects: Rows) -> Rows:
    """What a perfect detector sees through a window: every object, cut at the window's border."""
    seen = objects.copy()
    seen[:, 0:4:2] = seen[:, 0:4:2].clip(window.left, window.right)
    seen[:, 1:4:2] = seen[:, 1:4:2].clip(window.top, window.bottom)
    return seen[(seen[:, 2:4] - seen[:, :2] >= 4).all(1)]


def scattered(generator: np.random.Generator, size: tuple[int, int], largest: int) -> Rows:
    """Objects with 16 pixels of room around each, of two classes."""
    placed: list[tuple[float, ...]] = []
    for _ in range(400):
        width, height = generator.integers(8, largest + 1, 2)
        left = generator.integers(0, max(size[1] - width, 1))
        top = generator.integers(0, max(size[0] - height, 1))
        box = (left, top, left + width, top + height)
        apart = all(
            box[2] + 16 <= b[0] or b[2] + 16 <= box[0] or box[3] + 16 <= b[1] or b[3] + 16 <= box[1]
            for b in placed
        )
        if apart:
            placed.append((*box, generator.uniform(0.3, 1), generator.integers(2)))
    return rows(*placed)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("whole_view", [True, False], ids=["with-whole", "tiles-alone"])
def test_every_object_comes_out_once_and_whole(seed: int, whole_view: bool) -> None:
    """Objects of any size up to twice a tile, on seams and corners of seams."""
    generator = np.random.default_rng(seed)
    size = (int(generator.integers(300, 700)), int(generator.integers(300, 700)))
    objects = scattered(generator, size, largest=256)
    windows = tile_windows(size, Tiling(128, 0.25))
    views = [Window(0, 0, size[1], size[0]), *windows] if whole_view else windows
    found = merge([(view, ideal_detections(view, objects)) for view in views], size)
    expected = objects[np.argsort(-objects[:, 4], kind="stable")]
    np.testing.assert_allclose(found, expected)
