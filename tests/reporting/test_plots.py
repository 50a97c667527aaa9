"""Figures come out for every shape of data, with names of any kind, and without a warning."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from evaluation.evaluator import Evaluation
from reporting.plots import (
    CURVES,
    draw_confusion,
    draw_learning_curves,
    draw_over_confidence,
    draw_precision_recall,
)
from reporting.results_csv import CsvLogger
from tests.evaluation.evaluation_example import blind, evaluation, split

pytestmark = pytest.mark.filterwarnings("error")


def shown(path: Path) -> np.ndarray:
    picture = cv2.imread(str(path))
    assert picture is not None
    assert picture.std() > 0
    return picture


@pytest.mark.parametrize("classes", [1, 6, 80])
@pytest.mark.parametrize("judge", [evaluation, blind])
def test_every_figure_for_every_number_of_classes(
    tmp_path: Path, classes: int, judge: Callable[..., Evaluation]
) -> None:
    index = split(tmp_path / "data", classes=classes, images=4)
    judged = judge(index)
    draw_precision_recall(judged.classes, index.class_names, tmp_path / "pr.png")
    draw_confusion(judged.confusion.matrix, index.class_names, tmp_path / "confusion.png")
    for quantity in CURVES:
        draw_over_confidence(judged.classes, index.class_names, quantity, tmp_path / "c.png")
        shown(tmp_path / "c.png")
    shown(tmp_path / "pr.png")
    shown(tmp_path / "confusion.png")


def test_no_labels(tmp_path: Path) -> None:
    index = split(tmp_path / "data", classes=2, boxes=0)
    judged = evaluation(index)
    draw_precision_recall(judged.classes, index.class_names, tmp_path / "pr.png")
    draw_over_confidence(judged.classes, index.class_names, "F1", tmp_path / "f1.png")
    draw_confusion(judged.confusion.matrix, index.class_names, tmp_path / "confusion.png")
    for name in ("pr.png", "f1.png", "confusion.png"):
        shown(tmp_path / name)


def test_the_curves_over_confidence_are_those_of_the_metrics(tmp_path: Path) -> None:
    """All labels are found with confidence 0.9: recall is 1 up to there and 0 from there on."""
    judged = evaluation(split(tmp_path, classes=2))
    metrics = judged.classes
    assert metrics.confidence.shape == (1000,)
    for curve in CURVES.values():
        assert getattr(metrics, curve).shape == (2, 1000)
    assert (metrics.recall_curve[:, metrics.confidence < 0.89] == 1).all()
    assert (metrics.recall_curve[:, metrics.confidence > 0.91] == 0).all()


def test_losses_that_are_no_numbers_are_drawn(tmp_path: Path) -> None:
    results = CsvLogger(tmp_path, [[0, *[float("nan")] * 13], [1, float("inf"), *[0.5] * 12]]).path
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # matplotlib's about axes without a finite point
        draw_learning_curves(results, tmp_path / "results.png")
    shown(tmp_path / "results.png")
