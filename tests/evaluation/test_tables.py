"""Tables of a data set and of an evaluation, line by line."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from data.dataset_index import DatasetIndex
from data.instances import Instances
from data.report import DataReport
from evaluation.coco import NAMES as COCO_NAMES
from evaluation.evaluator import Evaluation, EvaluationConfig, Evaluator
from evaluation.tables import (
    COLUMNS,
    MOST_CLASSES,
    class_table,
    coco_table,
    data_table,
    size_table,
    write_tables,
)

NAMES = ("bolt", "nut", "washer")
FIGURES = (0.5, 0.75, 0.5, None, 0.25, 1.0, 0.1, 0.2, 0.3, None, 0.4, 1.0)
COCO = dict(zip(COCO_NAMES, FIGURES, strict=True))


def evaluation(*, by_size: bool = True) -> Evaluation:
    """A small bolt that is found, a large one that is not, a large nut that is; no washer."""
    evaluator = Evaluator(len(NAMES), EvaluationConfig(by_size=by_size))
    evaluator.add(
        np.array([(10, 10, 30, 30, 0.9, 0), (150, 150, 350, 350, 0.8, 1)], np.float32),
        np.array(
            [(0, 10, 10, 30, 30), (0, 10, 200, 120, 320), (1, 150, 150, 350, 350)], np.float32
        ),
    )
    return evaluator.evaluation()


def words(text: str) -> list[list[str]]:
    return [line.split() for line in text.splitlines()]


def test_classes_with_their_counts() -> None:
    """The bolts' curve falls from recall 1/2 to nothing at 1: v7.0 counts the triangle too."""
    heading, everything, *classes = words(class_table(evaluation(), NAMES))
    assert heading == ["class", "labels", "TP", "FP", "FN", "P", "R", "mAP50", "mAP50-95"]
    assert classes == [
        ["bolt", "2", "1", "0", "1", "1.000", "0.500", "0.750", "0.750"],
        ["nut", "1", "1", "0", "0", "1.000", "1.000", "0.995", "0.995"],
    ]
    assert everything[:7] == ["all", "3", "2", "0", "1", "1.000", "0.750"]
    assert float(everything[7]) == pytest.approx((0.75 + 0.995) / 2, abs=0.001)


def test_sizes_beside_each_other() -> None:
    lines = words(size_table(evaluation(), NAMES))
    assert lines[0] == ["small", "medium", "large"]
    assert lines[3] == ["bolt", "1", "1.000", "0.995", "0.995", "0", "-", "-", "-", "1", "0.000",
                        "0.000", "0.000"]  # fmt: skip
    assert lines[4][:5] == ["nut", "0", "-", "-", "-"]
    assert size_table(evaluation(by_size=False), NAMES) == ""


def test_an_evaluation_of_nothing_has_a_line() -> None:
    nothing = Evaluator(3, EvaluationConfig(by_size=True)).evaluation()
    assert words(class_table(nothing, NAMES))[1][:5] == ["all", "0", "0", "0", "0"]
    assert words(size_table(nothing, NAMES))[2][0] == "all"


def test_files_hold_every_class_and_size(tmp_path: Path) -> None:
    write_tables(tmp_path, evaluation(), NAMES, COCO)
    with (tmp_path / "classes.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == COLUMNS
    assert [(row["class"], row["size"], row["labels"]) for row in rows] == [
        ("all", "all", "3"),
        ("bolt", "all", "2"),
        ("nut", "all", "1"),
        ("all", "small", "1"),
        ("bolt", "small", "1"),
        ("all", "large", "2"),
        ("bolt", "large", "1"),
        ("nut", "large", "1"),
    ]
    assert (rows[1]["tp"], rows[1]["fn"], rows[1]["recall"]) == ("1", "1", "0.50000")
    coco = (tmp_path / "coco.csv").read_text(encoding="utf-8").splitlines()
    assert coco[:2] == ["metric,value", "AP,0.50000"]
    assert "APs," in coco


def test_cocos_figures() -> None:
    first, second = coco_table(COCO).splitlines()
    assert first == "COCO  AP 0.500  AP50 0.750  AP75 0.500  APs -  APm 0.250  APl 1.000"
    assert second.endswith("ARl 1.000")


def data_split(names: tuple[str, ...], classes: list[int], images: int) -> DatasetIndex:
    counts = [len(classes)] + [0] * (images - 1)
    boxes = np.tile([0, 0, 5, 5], (len(classes), 1))
    paths = [f"{i}.jpg" for i in range(images)]
    return DatasetIndex.build(paths, [(9, 9)] * images, Instances(boxes, classes), counts, names)


def test_splits_of_a_data_set_side_by_side() -> None:
    names = ("cat", "红细胞")
    splits = [data_split(names, [1] * 11 + [0], 3), data_split(names, [1], 1)]
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


def test_words_of_tables_are_chinese_and_columns_stay_aligned() -> None:
    """A wide character takes two columns; names of classes are never translated."""
    split = data_split(("all", "红细胞"), [1] * 11 + [0], 3)
    reports = [DataReport("a", listed=4, backgrounds=2)]
    assert data_table(("train",), [split], reports, language="zh").splitlines() == [
        "数据集      训练",
        "列出的图片     4",
        "使用的图片     3",
        "  没有目标     2",
        "框            12",
        "  红细胞      11",
        "  all          1",
    ]
    heading, everything, *_ = class_table(evaluation(), NAMES, language="zh").splitlines()
    assert heading.startswith("类别     标注数        TP        FP")
    assert everything.startswith("全部          3         2         0")
    assert words(size_table(evaluation(), NAMES, language="zh"))[0] == ["小", "中", "大"]


def test_rare_classes_share_a_row() -> None:
    names = tuple(f"class{i}" for i in range(MOST_CLASSES + 3))
    one = data_split(names, list(range(len(names))), 1)
    lines = data_table(("train",), [one], [DataReport("a", listed=1)]).splitlines()
    assert len(lines) == 5 + MOST_CLASSES + 1
    assert lines[-1].split() == ["3", "more", "classes", "3"]
