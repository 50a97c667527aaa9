"""Cleaning equals a slow loop, in blocks of any size, and never divides an image."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from data import clean_boxes as module
from data.read_dataset import clean_boxes
from data.report import DataReport

SIZES = np.array([[10, 20], [30, 5], [8, 8], [64, 64]], np.int32)


def counted(report: DataReport) -> tuple[int, int, int]:
    return report.clipped, report.without_area, report.duplicate_boxes


def by_loop(
    table: npt.NDArray[np.float64], owners: npt.NDArray[np.int64]
) -> tuple[list[list[float]], list[int], list[int], tuple[int, int, int]]:
    """One box after the other."""
    boxes, classes, images, seen = [], [], [], set()
    clipped = without_area = twice = 0
    for (index, *corners), image in zip(table.tolist(), owners.tolist(), strict=True):
        height, width = SIZES[image].tolist()
        limits = (width, height, width, height)
        box = [min(max(c, 0.0), limit) for c, limit in zip(corners, limits, strict=True)]
        if box[2] <= box[0] or box[3] <= box[1]:
            without_area += 1
            continue
        clipped += box != corners
        if (image, index, *box) in seen:
            twice += 1
            continue
        seen.add((image, index, *box))
        boxes.append(box)
        classes.append(int(index))
        images.append(image)
    return boxes, classes, images, (clipped, without_area, twice)


@pytest.mark.parametrize("block", [1, 2, 7, 1000])
def test_it_equals_a_slow_loop(monkeypatch: pytest.MonkeyPatch, block: int) -> None:
    """Few different corners, so that many boxes are given again, also in other images."""
    monkeypatch.setattr(module, "BLOCK", block)
    generator = np.random.default_rng(0)
    table = generator.integers(-2, 12, (400, 5)).astype(np.float64)
    table[:, 0] = generator.integers(0, 2, 400)
    table[::3, 3:] += 0.5
    table[5] = table[390] = [0, -0.0, 1, 3, 3]
    owners = np.sort(generator.integers(0, len(SIZES), 400))
    report = DataReport("x")
    clean = clean_boxes(table, owners, SIZES, report)
    boxes, classes, images, counts = by_loop(table, owners)
    assert clean.boxes.tolist() == boxes
    assert clean.classes.tolist() == classes
    assert clean.owners.tolist() == images
    assert counted(report) == counts
    assert all(counts)


def test_a_box_twice_in_one_image_is_no_box_twice_in_two() -> None:
    table = np.array([[0, 1, 1, 4, 4]] * 3, np.float64)
    report = DataReport("x")
    clean = clean_boxes(table, np.array([0, 0, 1]), SIZES, report)
    assert clean.owners.tolist() == [0, 1]
    assert counted(report) == (0, 0, 1)


def test_the_given_table_stays_and_no_box_is_fine() -> None:
    table = np.array([[0, -5, -5, 99, 99]], np.float64)
    before = table.copy()
    clean_boxes(table, np.array([1]), SIZES, DataReport("x"))
    np.testing.assert_array_equal(table, before)
    nothing = clean_boxes(np.zeros((0, 5)), np.zeros(0, np.int64), SIZES, DataReport("x"))
    assert [array.shape for array in nothing] == [(0, 4), (0,), (0,)]
    assert [array.dtype for array in nothing] == [np.float32, np.int32, np.int64]
