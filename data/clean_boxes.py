"""Boxes as annotated to boxes inside their image, with area and once each; the rest is counted."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from data.report import DataReport

BLOCK = 65_536
"""Rows worked on at once: what sorting them takes is small beside the data set."""


class CleanBoxes(NamedTuple):
    """The boxes that stay, in their order.

    boxes: float32 [m, 4], xyxy in pixels. classes: int32 [m]. owners: int64 [m], their images.
    """

    boxes: npt.NDArray[np.float32]
    classes: npt.NDArray[np.int32]
    owners: npt.NDArray[np.int64]


def clean_boxes(
    table: npt.NDArray[np.float64],
    owners: npt.NDArray[np.int64],
    sizes: npt.NDArray[np.int32],
    report: DataReport,
) -> CleanBoxes:
    """Boxes of `table` [n, 5] (class, xyxy), clipped to their image, with area, once each.

    owners [n]: the image of each row, never descending. sizes [images, 2]: height and width.
    What was clipped or left out is counted in `report`.
    """
    parts = [
        _clean_block(table[rows], owners[rows], sizes, report) for rows in _blocks(owners, BLOCK)
    ]
    return CleanBoxes(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))


def _blocks(owners: npt.NDArray[np.int64], size: int) -> Iterator[slice]:
    """Rows in blocks of `size` or more, since those of an image are never divided; one at least."""
    start = 0
    while len(owners) - start > size:
        end = int(np.searchsorted(owners, owners[start + size - 1], side="right"))
        yield slice(start, end)
        start = end
    yield slice(start, len(owners))


def _clean_block(
    table: npt.NDArray[np.float64],
    owners: npt.NDArray[np.int64],
    sizes: npt.NDArray[np.int32],
    report: DataReport,
) -> CleanBoxes:
    limits = sizes[owners][:, [1, 0, 1, 0]]
    boxes = np.clip(table[:, 1:], 0, limits).astype(np.float32)
    outside = ((table[:, 1:] < 0) | (table[:, 1:] > limits)).any(axis=1)
    has_area = (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
    report.without_area += int((~has_area).sum())
    report.clipped += int((outside & has_area).sum())
    kept = np.flatnonzero(has_area)
    columns = (*boxes[kept].T, table[kept, 0], owners[kept])
    # Equal rows come to lie side by side, the first of them first: this sort keeps the order.
    order = np.lexsort(columns)
    again = np.ones(max(len(order) - 1, 0), bool)
    for column in columns:
        again &= column[order[1:]] == column[order[:-1]]
    report.duplicate_boxes += int(again.sum())
    kept = np.delete(kept, order[1:][again])
    return CleanBoxes(boxes[kept], table[kept, 0].astype(np.int32), owners[kept])
