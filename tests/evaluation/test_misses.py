from __future__ import annotations

import numpy as np
import pytest

from evaluation.metrics import match_detections
from evaluation.misses import found_labels, worst_first

LABELS = np.array([[0, 10, 10, 30, 30], [1, 50, 10, 70, 30], [0, 12, 10, 32, 30]], np.float32)


def row(left: float, cls: int, confidence: float) -> list[float]:
    return [left, 10, left + 20, 30, confidence, cls]


@pytest.mark.parametrize(
    ("rows", "found"),
    [
        pytest.param([], [False, False, False], id="no-detection"),
        pytest.param([row(10, 0, 0.9)], [True, False, False], id="first"),
        pytest.param([row(10, 1, 0.9)], [False, False, False], id="wrong-class"),
        pytest.param([row(25, 0, 0.9)], [False, False, False], id="too-far"),
        pytest.param([row(12, 0, 0.9), row(10, 0, 0.8)], [True, False, True], id="neighbours"),
        pytest.param([row(12, 0, 0.9), row(13, 0, 0.8)], [False, False, True], id="two-on-one"),
        pytest.param([row(50, 1, 0.9)], [False, True, False], id="second-class"),
    ],
)
def test_found(rows: list[list[float]], found: list[bool]) -> None:
    detections = np.array(rows, np.float32).reshape(-1, 6)
    assert found_labels(detections, LABELS).tolist() == found


def test_no_labels() -> None:
    assert found_labels(np.array([row(1, 0, 0.5)], np.float32), np.zeros((0, 5))).shape == (0,)


def test_as_many_as_are_counted_right() -> None:
    """On random scenes the number found is the number of true positives."""
    rng = np.random.default_rng(3)
    some = 0
    for _ in range(50):
        corners = rng.uniform(0, 60, (rng.integers(0, 12), 2))
        labels = np.column_stack(
            [rng.integers(0, 2, len(corners)), corners, corners + rng.uniform(5, 30, corners.shape)]
        ).astype(np.float32)
        near = labels[rng.integers(0, len(labels), 15)] if len(labels) else labels
        detections = np.column_stack(
            [
                near[:, 1:] + rng.normal(0, 2, (len(near), 4)),
                np.sort(rng.uniform(0, 1, len(near)))[::-1],
                near[:, 0],
            ]
        ).astype(np.float32)
        right = match_detections(detections, labels)[:, 0].sum()
        assert found_labels(detections, labels).sum() == right
        some += right
    assert some > 50


def test_the_worst_come_first() -> None:
    missed = np.array([0, 2, 5, 2, 5])
    total = np.array([9, 4, 50, 2, 5])
    assert worst_first(missed, total).tolist() == [4, 2, 3, 1]
    assert worst_first(np.zeros(3, int), np.ones(3, int)).tolist() == []
