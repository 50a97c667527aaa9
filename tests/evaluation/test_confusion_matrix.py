"""The confusion matrix against recorded cases of v7.0, and where it is meant to differ."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from evaluation.confusion_matrix import ConfusionMatrix

GOLDEN = Path(__file__).parent.parent / "golden"
ABOUT = json.loads((GOLDEN / "matching.json").read_text())["confusion"]
RECORDED = dict(np.load(GOLDEN / "matching.npz", allow_pickle=False))


def recorded(name: str, *, official_background: bool) -> ConfusionMatrix:
    about = ABOUT[name]
    confusion = ConfusionMatrix(
        about["nc"],
        confidence=about["conf"],
        iou=about["iou_thres"],
        official_background=official_background,
    )
    for number, is_none in enumerate(about["det_is_none"]):
        labels = RECORDED[f"cm.{name}.lab{number}"]
        if is_none:  # recorded as the classes alone
            labels = np.column_stack([labels, np.zeros((len(labels), 4))])
        confusion.add(None if is_none else RECORDED[f"cm.{name}.det{number}"], labels)
    return confusion


@pytest.mark.parametrize("name", ABOUT)
def test_recorded_matrices(name: str) -> None:
    """Numbers: v7.0's matrix, with its forgotten background detections switched on."""
    confusion = recorded(name, official_background=True)
    np.testing.assert_array_equal(confusion.matrix, RECORDED[f"cm.{name}.matrix"])


@pytest.mark.parametrize("name", ABOUT)
def test_every_confident_detection_is_counted_once(name: str) -> None:
    """v7.0 forgets detections in images where none has a partner: a defect, not ours."""
    about = ABOUT[name]
    matrix = recorded(name, official_background=False).matrix
    detections = np.concatenate(
        [RECORDED[f"cm.{name}.det{number}"] for number in range(about["batches"])]
    )
    confident = detections[detections[:, 4] > about["conf"]]
    counted = np.bincount(confident[:, 5].astype(int), minlength=about["nc"])
    np.testing.assert_array_equal(matrix[:-1].sum(1), counted)


def test_example() -> None:
    """The worked example of the v7.0 specification; here both ways agree."""
    detections = np.array(
        [
            [0, 0, 10, 10, 0.9, 0],
            [0, 0, 10, 12, 0.8, 0],
            [0, 0, 9, 10, 0.7, 0],
            [20, 20, 30, 30, 0.6, 1],
            [20, 20, 30, 31, 0.5, 0],
        ]
    )
    labels = np.array([[0, 0, 0, 10, 10], [1, 20, 20, 30, 29], [0, 1, 0, 11, 10]])
    for official in (False, True):
        confusion = ConfusionMatrix(2, official_background=official)
        confusion.add(detections, labels.astype(float))
        assert confusion.matrix.tolist() == [[1, 0, 3], [0, 1, 0], [1, 0, 0]]


def test_images_without_labels_or_without_detections() -> None:
    confusion = ConfusionMatrix(1)
    box = [0.0, 0.0, 9.0, 9.0]
    confusion.add(np.array([[*box, 0.9, 0], [*box, 0.25, 0]]), np.zeros((0, 5)))
    confusion.add(None, np.array([[0, *box]]))
    confusion.add(np.zeros((0, 6)), np.array([[0, *box]]))
    confusion.add(None, np.zeros((0, 5)))
    assert confusion.matrix.tolist() == [[0, 1], [2, 0]]
