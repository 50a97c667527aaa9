"""The table of a data set, letter by letter."""

from __future__ import annotations

import numpy as np

from data.dataset_index import DatasetIndex
from data.instances import Instances
from data.report import DataReport
from evaluation.data_table import MOST_CLASSES, data_table


def split(names: tuple[str, ...], classes: list[int], images: int) -> DatasetIndex:
    counts = [len(classes)] + [0] * (images - 1)
    boxes = np.tile([0, 0, 5, 5], (len(classes), 1))
    paths = [f"{i}.jpg" for i in range(images)]
    return DatasetIndex.build(paths, [(9, 9)] * images, Instances(boxes, classes), counts, names)


def test_two_splits_side_by_side() -> None:
    names = ("cat", "红细胞")
    splits = [split(names, [1] * 11 + [0], 3), split(names, [1], 1)]
    reports = [DataReport("a", listed=4, backgrounds=2), DataReport("b", listed=1)]
    assert data_table(("train", "val"), splits, reports).splitlines() == [
        "data set           train    val",
        "images listed          4      1",
        "images used            3      1",
        "  without objects      2      0",
        "boxes                 12      1",
        "  红细胞              11      1",
        "  cat                  1      0",
    ]


def test_rare_classes_share_a_row() -> None:
    names = tuple(f"class{i}" for i in range(MOST_CLASSES + 3))
    one = split(names, list(range(len(names))), 1)
    lines = data_table(("train",), [one], [DataReport("a", listed=1)]).splitlines()
    assert len(lines) == 5 + MOST_CLASSES + 1
    assert lines[-1].split() == ["3", "more", "classes", "3"]
