"""Mosaics: images laid on a canvas and warped to the output; only the visible part is built.

Images are uint8 [h, w, 3], positions on the canvas and in the output are pixels, sizes (height,
width), rectangles and boxes x1, y1, x2, y2. The layouts are those of v7.0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce

import cv2
import numpy as np
import numpy.typing as npt

from data.images import Pixels
from data.instances import Instances
from ops.letterbox import PAD_VALUE

Floats = npt.NDArray[np.float64]
Rectangle = tuple[int, int, int, int]
Size = tuple[int, int]

# Pixels around what the output shows, for interpolation.
_MARGIN = 2


@dataclass(frozen=True)
class Tile:
    """Part `crop` of an image lies at `canvas`; both x1, y1, x2, y2 in pixels, of equal size."""

    canvas: Rectangle
    crop: Rectangle

    @property
    def offset(self) -> tuple[int, int]:
        """Return (x, y) to add to a position in the image to find it on the canvas."""
        return self.canvas[0] - self.crop[0], self.canvas[1] - self.crop[1]


def mosaic_tiles(sizes: Sequence[Size], centre: tuple[int, int], side: int) -> list[Tile]:
    """Return where four images of the given sizes meet at `centre` (y, x) of a 2·side canvas.

    Order: top left, top right, bottom left, bottom right. Each touches the centre with its own
    corner; what sticks out of the canvas is cropped.
    """
    y, x = centre
    tiles = []
    for place, (height, width) in enumerate(sizes):
        below, right = divmod(place, 2)
        left, top = (x if right else x - width), (y if below else y - height)
        tiles.append(_cropped(left, top, (height, width), 2 * side))
    return tiles


def nine_tiles(sizes: Sequence[Size], corner: tuple[int, int], side: int) -> list[Tile]:
    """Return where nine images lie on the 2·side square cut out of a 3·side one at `corner`.

    On the larger canvas the first image has its top left corner at (side, side); the others
    follow clockwise from above it, each against the edges of the first and of the one before.
    `corner` is (y, x), both 0 to side. An image may lie outside of the cut: an empty tile.
    """
    first_height, first_width = sizes[0]
    tiles = []
    for place, (height, width) in enumerate(sizes):
        last_height, last_width = sizes[place - 1]
        left, top = (
            (0, 0),
            (0, -height),
            (last_width, -height),
            (first_width, 0),
            (first_width, last_height),
            (first_width - width, first_height),
            (first_width - last_width - width, first_height),
            (-width, first_height - height),
            (-width, first_height - last_height - height),
        )[place]
        x, y = left + side - corner[1], top + side - corner[0]
        tiles.append(_cropped(x, y, (height, width), 2 * side))
    return tiles


def single_tile(size: Size, canvas: Size) -> Tile:
    """Return one image in the middle of a canvas that is at least as large."""
    height, width = size
    left, top = (canvas[1] - width) // 2, (canvas[0] - height) // 2
    return Tile((left, top, left + width, top + height), (0, 0, width, height))


def render(images: Sequence[Pixels], tiles: Sequence[Tile], matrix: Floats, output: Size) -> Pixels:
    """Warp the canvas under `tiles` to the output, BGRX [*output, 4]; 114 where no image lies.

    Only the part of the canvas that the output shows is built, at a typical scale a third of it;
    the result is that of warping the whole. Bilinear. The fourth channel carries nothing: OpenCV
    warps four channels in half the time it needs for three.
    """
    left, top, right, bottom = visible_part(tiles, matrix, output)
    patch = np.full((bottom - top, right - left, 4), PAD_VALUE, np.uint8)
    for image, tile in zip(images, tiles, strict=True):
        x1, y1, x2, y2 = overlap(tile.canvas, (left, top, right, bottom))
        if x2 > x1 and y2 > y1:
            x, y = tile.offset
            crop = image[y1 - y : y2 - y, x1 - x : x2 - x]
            target = patch[y1 - top : y2 - top, x1 - left : x2 - left]
            cv2.cvtColor(crop, cv2.COLOR_BGR2BGRA, dst=target)
    shift = np.array([[1, 0, left], [0, 1, top], [0, 0, 1]], np.float64)
    size, fill = (output[1], output[0]), (PAD_VALUE,) * 4
    if matrix[2, 0] == 0 and matrix[2, 1] == 0:
        warped = cv2.warpAffine(patch, (matrix @ shift)[:2], size, borderValue=fill)
    else:
        warped = cv2.warpPerspective(patch, matrix @ shift, size, borderValue=fill)
    return np.asarray(warped, np.uint8)


def place_instances(
    instances: Sequence[Instances], tiles: Sequence[Tile], canvas: Size
) -> Instances:
    """Return the objects of all images in pixels of the canvas, clipped to it."""
    pairs = zip(instances, tiles, strict=True)
    moved = [one.with_boxes(np.asarray(one.boxes, float) + tile.offset * 2) for one, tile in pairs]
    placed = Instances.concatenate(moved)
    return placed.with_boxes(placed.boxes.clip(0, (canvas[1], canvas[0]) * 2))


def transform_boxes(boxes: npt.NDArray[np.floating], matrix: Floats, output: Size) -> Floats:
    """Return the boxes [n, 4] enclosing the transformed corners of `boxes`, clipped to the output.

    A box of which a corner would lie behind the viewer of a perspective view comes out empty.
    """
    corners = np.asarray(boxes, np.float64)[:, [0, 1, 2, 3, 0, 3, 2, 1]].reshape(-1, 4, 2)
    moved = corners @ matrix[:2, :2].T + matrix[:2, 2]
    depth = corners @ matrix[2, :2] + matrix[2, 2]
    visible = (depth > 0).all(1)
    moved /= np.where(depth > 0, depth, 1.0)[..., None]
    # Numpy reduces the short axis several times slower.
    low, high = (reduce(pick, moved.swapaxes(0, 1)) for pick in (np.minimum, np.maximum))
    enclosing = np.concatenate((low, high), 1) * visible[:, None]
    return np.asarray(np.clip(enclosing, 0.0, (output[1], output[0]) * 2), np.float64)


def _cropped(left: int, top: int, size: Size, limit: int) -> Tile:
    """Return the part of an image at (left, top) that lies on a square canvas of `limit` pixels."""
    height, width = size
    x1, x2 = (min(max(x, 0), limit) for x in (left, left + width))
    y1, y2 = (min(max(y, 0), limit) for y in (top, top + height))
    return Tile((x1, y1, x2, y2), (x1 - left, y1 - top, x2 - left, y2 - top))


def overlap(first: Rectangle, second: Rectangle) -> Rectangle:
    """Return what two rectangles share; without width or height where that is nothing."""
    left, top = max(first[0], second[0]), max(first[1], second[1])
    right, bottom = min(first[2], second[2]), min(first[3], second[3])
    return left, top, max(right, left), max(bottom, top)


def visible_part(tiles: Sequence[Tile], matrix: Floats, output: Size) -> Rectangle:
    """Return the part of the tiles' common rectangle that the output shows; at least one pixel."""
    whole = np.array([tile.canvas for tile in tiles])
    low, high = whole[:, :2].min(0), whole[:, 2:].max(0)
    height, width = output
    corners = np.array([[0, 0, 1], [width, 0, 1], [0, height, 1], [width, height, 1]]).T
    x, y, depth = np.linalg.inv(matrix) @ corners
    if (depth > 0).all():
        shown = np.stack((x, y)) / depth
        low = np.maximum(low, np.floor(shown.min(1)) - _MARGIN)
        high = np.minimum(high, np.ceil(shown.max(1)) + _MARGIN)
    # Where the output shows no tile at all, one pixel keeps the patch from being empty.
    left, top = (int(value) for value in low)
    right, bottom = (int(value) for value in high)
    return left, top, max(right, left + 1), max(bottom, top + 1)
