"""What is gathered from a split: counts at one confidence, and figures by object size."""

from __future__ import annotations

import numpy as np
import pytest

from evaluation.evaluator import SIZES, Evaluation, Evaluator, operating_point, size_class

SMALL, MEDIUM, LARGE = (10, 10, 30, 30), (50, 50, 110, 110), (150, 150, 350, 350)


def test_counts_at_one_confidence() -> None:
    """Three labels of class 0, one of class 1. Shown at 0.5: a hit and a miss of class 0, a hit
    of class 1; the second hit of class 0 is too unsure. Recalls 1/3 and 1: mean 2/3.
    """
    point = operating_point(
        correct=np.array([True, False, True, True]),
        confidence=np.array([0.9, 0.8, 0.4, 0.5]),
        predicted=np.array([0, 0, 0, 1]),
        target=np.array([0, 0, 0, 1]),
        threshold=0.5,
    )
    assert (point.true_positives, point.false_positives, point.false_negatives) == (2, 1, 2)
    assert point.recall == pytest.approx(2 / 3)


def test_counts_without_anything() -> None:
    nothing = np.zeros(0)
    point = operating_point(nothing.astype(bool), nothing, nothing, nothing, 0.25)
    assert (point.true_positives, point.false_positives, point.false_negatives) == (0, 0, 0)
    assert point.recall == 0.0


@pytest.mark.parametrize(
    ("side", "size"),
    [(31.9, "small"), (32, "medium"), (95.9, "medium"), (96, "large"), (0, "small")],
)
def test_sizes_are_cocos(side: float, size: str) -> None:
    boxes = np.array([[5, 5, 5 + side, 5 + side]])
    assert SIZES[size_class(boxes)[0]] == size


def detections(*rows: tuple[float, ...]) -> np.ndarray:
    return np.array(rows, np.float32).reshape(-1, 6)


def labels(*rows: tuple[float, ...]) -> np.ndarray:
    return np.array(rows, np.float32).reshape(-1, 5)


def tallied(found: np.ndarray, known: np.ndarray) -> Evaluation:
    tally = Evaluator(2)
    tally.add(found, known)
    return tally.evaluation(report_confidence=0.25, by_size=True)


def test_a_size_knows_its_own_labels_and_detections_only() -> None:
    """Small: found, and one invention surer than it. Medium: missed. Large: found alone."""
    evaluation = tallied(
        detections((*LARGE, 0.95, 1), (200, 10, 220, 30, 0.9, 0), (*SMALL, 0.8, 0)),
        labels((0, *SMALL), (0, *MEDIUM), (1, *LARGE)),
    )
    small, medium, large = evaluation.by_size
    assert [m.classes.tolist() for m in (small, medium, large)] == [[0], [0], [1]]
    assert [m.labels.tolist() for m in (small, medium, large)] == [[1], [1], [1]]
    assert large.ap[0, 0] == pytest.approx(0.995)
    assert small.ap[0, 0] == pytest.approx(0.5, abs=0.01)  # precision 1/2 at every recall
    assert medium.ap[0, 0] == 0.0
    at = {m.best_index for m in (small, medium, large)}
    assert at == {evaluation.classes.best_index}


def test_a_detection_belongs_to_the_size_of_the_label_it_finds() -> None:
    """A box of 31 x 31 pixels on a label of 33 x 33 is a find among the medium ones, and no
    invention among the small ones.
    """
    evaluation = tallied(detections((50, 50, 81, 81, 0.9, 0)), labels((0, 50, 50, 83, 83)))
    small, medium, _ = evaluation.by_size
    assert len(small.classes) == 0
    assert medium.ap[0, 0] == pytest.approx(0.995)


def test_sizes_are_left_out_unless_asked_for() -> None:
    tally = Evaluator(2)
    tally.add(detections(), labels((0, *SMALL)))
    assert tally.evaluation(report_confidence=0.25).by_size == ()


def test_an_empty_split_has_figures_too() -> None:
    evaluation = Evaluator(2).evaluation(report_confidence=0.25, by_size=True)
    assert evaluation.scores.map50 == 0.0
    assert evaluation.labels_per_class.tolist() == [0, 0]
    assert evaluation.at_confidence.false_negatives == 0
