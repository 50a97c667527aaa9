"""The changed data set of the benchmark, and its table."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bench.transfer import changed_classes, table
from tools.sources import SourceDataset, SourceImage
from utils.errors import Code, TaskError


def image(classes: list[int], sides: list[int]) -> SourceImage:
    boxes = np.array([[0.0, 0.0, side, side] for side in sides]).reshape(-1, 4)
    return SourceImage(Path("a.jpg"), boxes, np.array(classes, dtype=np.int64))


@pytest.fixture
def source() -> SourceDataset:
    splits = {
        "train": (image([0, 1, 1], [1, 10, 20]), image([1, 2, 1], [30, 5, 40]), image([], [])),
        "val": (image([1, 1, 0], [12, 26, 1]),),
        "test": (),
    }
    return SourceDataset("voc", ("WBC", "RBC", "Platelets"), splits, ())


def test_one_class_is_renamed_and_one_split(source: SourceDataset) -> None:
    changed = changed_classes(source, rename=("Platelets", "Thrombocyte"), split="RBC")
    assert changed.class_names == ("WBC", "RBC", "Thrombocyte", "RBC_small")
    # The median of 100, 400, 900 and 1600 is 650.
    assert [i.classes.tolist() for i in changed.splits["train"]] == [[0, 3, 3], [1, 2, 1], []]
    assert changed.splits["val"][0].classes.tolist() == [3, 1, 0]
    assert changed.splits["test"] == ()
    assert source.splits["train"][0].classes.tolist() == [0, 1, 1]


@pytest.mark.parametrize(("old", "split"), [("Platelet", "RBC"), ("Platelets", "rbc")])
def test_classes_that_are_not_there(source: SourceDataset, old: str, split: str) -> None:
    with pytest.raises(TaskError, match="must be one of WBC, RBC, Platelets") as caught:
        changed_classes(source, rename=(old, "x"), split=split)
    assert caught.value.code is Code.CONFIG


def test_the_table() -> None:
    figures = {"mAP50": 0.91234, "mAP50-95": 0.6, "best epoch": 19}
    assert table({"fine-tuned": (20, figures)}).splitlines()[2] == (
        "| fine-tuned | 20 | 19 | 0.912 | 0.600 |"
    )
