"""Overlapping tiles of large images, and the merging of their detections.

An object smaller than the overlap lies whole in some tile; larger ones are found in the whole
image. A detection that a tile's border cuts is a fragment: fragments that continue each other
across a seam become one object, and a fragment inside a whole object is dropped. Boxes are xyxy in
pixels of the original image throughout.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from ops.nms import NmsConfig, suppress_rows

Rows = NDArray[np.float32]
Flags = NDArray[np.bool_]

NEAR_BORDER = 0.01
"""Share of a tile's side within which a box counts as cut by it: detections are not exact."""
SAME_EXTENT = 0.5
"""Least overlap, along the seam, of two fragments that continue each other."""
COVERED = 0.5
"""A fragment yields to a whole object that holds more than this share of it ..."""
LEAST_CONFIDENCE = 0.25
"""... unless the whole object has less than this share of the fragment's confidence."""
_CHUNK = 128


class Window(NamedTuple):
    """A rectangle of an image in its pixels: left, top, right, bottom."""

    left: int
    top: int
    right: int
    bottom: int


@dataclass(frozen=True)
class Tiling:
    """Size and overlap of tiles."""

    size: int
    """Side of a tile in pixels of the original."""
    overlap: float = 0.2
    """Least share of its side that a tile has in common with the next."""


def tile_windows(size_hw: tuple[int, int], tiling: Tiling) -> list[Window]:
    """Return the tiles of an image, row by row; none for an image that fits into one.

    They are evenly spaced and of one size (but never larger than the image); the outer ones are
    flush with the image's borders.
    """
    height, width = size_hw
    if max(height, width) <= tiling.size:
        return []
    return [
        Window(left, top, min(left + tiling.size, width), min(top + tiling.size, height))
        for top in _starts(height, tiling)
        for left in _starts(width, tiling)
    ]


def _starts(length: int, tiling: Tiling) -> list[int]:
    room = length - tiling.size
    if room <= 0:
        return [0]
    step = max(1, int(tiling.size * (1 - tiling.overlap)))
    gaps = -(-room // step)
    return [room * number // gaps for number in range(gaps + 1)]


def cut_sides(boxes: NDArray[np.floating], window: Window, size_hw: tuple[int, int]) -> Flags:
    """Return which sides (left, top, right, bottom) of boxes [n, 4] the window cuts: bool [n, 4].

    A side is cut where it lies at a border of the window that is no border of the image.
    """
    near = _margins(np.array([window]))
    low = boxes[:, :2] <= np.array(window[:2]) + near
    high = boxes[:, 2:4] >= np.array(window[2:]) - near
    inner = (window.left > 0, window.top > 0, window.right < size_hw[1], window.bottom < size_hw[0])
    cut: Flags = np.concatenate([low, high], 1) & np.array(inner)
    return cut


def _margins(windows: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the tolerances (x, y) in pixels [n, 2] at the borders of windows [n, 4]."""
    margins: NDArray[np.float64] = np.maximum(NEAR_BORDER * (windows[:, 2:] - windows[:, :2]), 1.0)
    return margins


def merge_tile_detections(
    found: Sequence[tuple[Window, Rows]], size_hw: tuple[int, int], config: NmsConfig
) -> Rows:
    """Merge the detections of the tiles of one image, without duplicates and fragments.

    Every entry is a tile and its detections [n, 6]: xyxy in pixels of the original, confidence,
    class. Return rows of the same form by falling confidence, at most `config.max_detections`.
    """
    rows = np.concatenate([tile_rows for _, tile_rows in found])
    windows = np.concatenate(
        [np.repeat(np.array([window], np.int64), len(tile_rows), 0) for window, tile_rows in found]
    )
    sides = np.concatenate(
        [cut_sides(tile_rows[:, :4], window, size_hw) for window, tile_rows in found]
    )
    groups = np.zeros(len(rows)) if config.class_agnostic else rows[:, 5]
    merged = [
        _without_fragments(rows[groups == group], windows[groups == group], sides[groups == group])
        for group in np.unique(groups)
    ]
    joined = np.concatenate([rows[:0], *merged])
    joined = joined[np.argsort(-joined[:, 4], kind="stable")]
    kept: Rows = joined[suppress_rows(torch.from_numpy(joined), config).numpy()]
    return kept


def _without_fragments(rows: Rows, windows: NDArray[np.int64], sides: Flags) -> Rows:
    """Return rows of one class with fragments joined, without those inside a whole object."""
    is_cut = sides.any(1)
    if not is_cut.any():
        return rows
    fragments, still_cut = _join(rows[is_cut], windows[is_cut], sides[is_cut])
    whole = np.concatenate([rows[~is_cut], fragments[~still_cut]])
    left_over = fragments[still_cut]
    return np.concatenate([whole, left_over[~_covered(left_over, whole)]])


def _join(rows: Rows, windows: NDArray[np.int64], sides: Flags) -> tuple[Rows, Flags]:
    """Join fragments [k, 6] that continue each other; return them and which are still cut [k].

    A joined object has the row of its most confident fragment and the box enclosing all.
    """
    owner = np.arange(len(rows))
    for first, second in _continuations(rows, windows, sides):
        one, other = _root(owner, first), _root(owner, second)
        owner[max(one, other)] = min(one, other)
    roots = np.array([_root(owner, index) for index in range(len(rows))])
    joined, still_cut = [], []
    for root in np.unique(roots):
        members = np.flatnonzero(roots == root)
        group, near = rows[members], _margins(windows[members])
        box = np.concatenate([group[:, :2].min(0), group[:, 2:4].max(0)])
        # A side is whole if a fragment that reaches as far is not cut there.
        reaches = np.abs(group[:, :4] - box) <= np.concatenate([near, near], 1)
        still_cut.append(not (reaches & ~sides[members]).any(0).all())
        best = group[group[:, 4].argmax()].copy()
        best[:4] = box
        joined.append(best)
    return np.array(joined, np.float32).reshape(-1, 6), np.array(still_cut, bool)


def _root(owner: NDArray[np.int64], index: int) -> int:
    while owner[index] != index:
        owner[index] = owner[owner[index]]
        index = int(owner[index])
    return index


def _continuations(
    rows: Rows, windows: NDArray[np.int64], sides: Flags
) -> Iterator[tuple[int, int]]:
    """Yield pairs of fragments (of one class) that are the two sides of one object across a seam.

    Both fill the strip that their tiles share, the first is cut at the near tile's border, the
    second at the far tile's, and along the seam they have the same extent.
    """
    margins = _margins(windows)
    for start in range(0, len(rows), _CHUNK):
        one = slice(start, start + _CHUNK)
        for axis in (0, 1):
            low, high, across_low, across_high = axis, axis + 2, 1 - axis, 3 - axis
            near = margins[one, axis][:, None]
            meet = sides[one, high][:, None] & sides[None, :, low]
            meet &= windows[one, low][:, None] < windows[None, :, low]
            meet &= windows[one, high][:, None] >= windows[None, :, low]
            meet &= rows[one, low][:, None] <= windows[None, :, low] + near
            meet &= rows[None, :, high] >= windows[one, high][:, None] - near
            shared = np.minimum(
                rows[one, across_high][:, None], rows[None, :, across_high]
            ) - np.maximum(rows[one, across_low][:, None], rows[None, :, across_low])
            extent = rows[:, across_high] - rows[:, across_low]
            both = extent[one][:, None] + extent[None, :] - shared
            for first, second in np.argwhere(meet & (shared > SAME_EXTENT * both)):
                yield start + int(first), int(second)


def _covered(fragments: Rows, whole: Rows) -> Flags:
    """Return which fragments [k, 6] lie for the most part in a whole object [n, 6]: bool [k]."""
    covered = np.zeros(len(fragments), bool)
    for start in range(0, len(fragments), _CHUNK):
        block = fragments[start : start + _CHUNK, None]
        low = np.maximum(block[..., :2], whole[None, :, :2])
        high = np.minimum(block[..., 2:4], whole[None, :, 2:4])
        shared = (high - low).clip(min=0).prod(-1)
        area = (block[..., 2:4] - block[..., :2]).clip(min=0).prod(-1)
        inside = shared > COVERED * area
        inside &= whole[None, :, 4] >= LEAST_CONFIDENCE * block[..., 4]
        covered[start : start + _CHUNK] = inside.any(1)
    return covered
