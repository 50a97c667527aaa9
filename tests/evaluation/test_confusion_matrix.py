"""The confusion matrix against recorded cases of v7.0, and where it is meant to differ."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from evaluation.confusion_matrix import ConfusionMatrix
from tests.evaluation.evaluation_example import DETECTIONS, LABELS

GOLDEN = Path(__file__).parent.parent / "golden"
ABOUT = json.loads((GOLDEN / "matching.json").read_text())["confusion"]
RECORDED = dict(np.load(GOLDEN / "matching.npz", allow_pickle=False))


@pytest.mark.parametrize("name", ABOUT)
def test_recorded_matrices(name: str) -> None:
    """Numbers: v7.0's matrix, and the detections that it forgets in images without any match."""
    about = ABOUT[name]
    expected = RECORDED[f"cm.{name}.matrix"].copy()
    whole = ConfusionMatrix(about["nc"], confidence=about["conf"], iou=about["iou_thres"])
    for number, is_none in enumerate(about["det_is_none"]):
        labels, detections = RECORDED[f"cm.{name}.lab{number}"], RECORDED[f"cm.{name}.det{number}"]
        if is_none:  # recorded as the classes alone
            labels = np.column_stack([labels, np.zeros((len(labels), 4))])
        alone = ConfusionMatrix(about["nc"], confidence=about["conf"], iou=about["iou_thres"])
        for one in (alone, whole):
            one.add(detections, labels)
        if not alone.matrix[:-1, :-1].any():
            confident = detections[detections[:, 4] > about["conf"]]
            expected[:, -1] += np.bincount(confident[:, 5].astype(int), minlength=len(expected))
    np.testing.assert_array_equal(whole.matrix, expected)


def test_example() -> None:
    """The worked example of the v7.0 specification."""
    confusion = ConfusionMatrix(2)
    confusion.add(DETECTIONS, LABELS)
    assert confusion.matrix.tolist() == [[1, 0, 3], [0, 1, 0], [1, 0, 0]]


def test_crowd_regions_take_detections_from_the_background() -> None:
    """Wholly in a region of its class; of another class; half in it; a hit in it stays a hit."""
    rows = [[20, 0, 30, 10, 0.9, 0], [20, 0, 30, 10, 0.9, 1], [35, 0, 45, 10, 0.9, 0]]
    rows += [[36, 0, 46, 10, 0.9, 0], [15, 0, 25, 10, 0.9, 0]]
    confusion = ConfusionMatrix(2)
    confusion.add(np.array(rows), np.array([[0, 15, 0, 25, 10]]), np.array([[0, 10, 0, 40, 10]]))
    assert confusion.matrix.tolist() == [[1, 0, 1], [0, 0, 1], [0, 0, 0]]


def test_images_without_labels_or_without_detections() -> None:
    confusion = ConfusionMatrix(1)
    box = [0.0, 0.0, 9.0, 9.0]
    confusion.add(np.array([[*box, 0.9, 0], [*box, 0.25, 0]]), np.zeros((0, 5)))
    confusion.add(np.zeros((0, 6)), np.array([[0, *box]]))
    assert confusion.matrix.tolist() == [[0, 1], [1, 0]]
