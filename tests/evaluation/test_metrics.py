"""Matching and average precision against recorded cases of v7.0, by hand and by slow loops."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

from evaluation.confusion_matrix import NO_REGIONS
from evaluation.metrics import (
    IOU_THRESHOLDS,
    THRESHOLDS,
    ClassMetrics,
    ap_per_class,
    correct_between,
    fitness,
    found_and_invented,
    iou_matrix,
    match_batch,
    match_detections,
    smooth,
    summarise,
)
from tests.conftest import DEVICES
from tests.evaluation.evaluation_example import DETECTIONS, LABELS

GOLDEN = Path(__file__).parent.parent / "golden"
ABOUT = json.loads((GOLDEN / "matching.json").read_text())
RECORDED = dict(np.load(GOLDEN / "matching.npz", allow_pickle=False))


def recorded_metrics(name: str) -> ClassMetrics:
    # Rows in the order v7.0 used: the result of "ties" depends on the order of equal scores.
    order = RECORDED[f"ap.{name}.order"]
    tp, confidence, predicted = (
        RECORDED[f"ap.{name}.in.{key}"][order] for key in ("tp", "conf", "pred_cls")
    )
    return ap_per_class(tp, confidence, predicted, RECORDED[f"ap.{name}.in.target_cls"])


@pytest.mark.parametrize("name", ABOUT["ap"])
def test_recorded_average_precision(name: str) -> None:
    """Numbers: v7.0's `ap_per_class` on random hits."""
    metrics = recorded_metrics(name)
    found = {"ap": metrics.ap, "p": metrics.precision, "r": metrics.recall, "f1": metrics.f1}
    for key, values in found.items():
        np.testing.assert_allclose(values, RECORDED[f"ap.{name}.out.{key}"], rtol=0, atol=1e-9)
    for key, counts in {"tp": metrics.tp, "fp": metrics.fp, "classes": metrics.classes}.items():
        np.testing.assert_array_equal(counts, RECORDED[f"ap.{name}.out.{key}"])
    assert metrics.best_index == ABOUT["ap"][name]["f1_index"]
    scores = summarise(metrics)
    assert scores.map50 == pytest.approx(ABOUT["ap"][name]["map50"], abs=1e-9)
    assert scores.map50_95 == pytest.approx(ABOUT["ap"][name]["map"], abs=1e-9)


@pytest.mark.parametrize("name", ["typical", "crowded", "single", "no_match", "exact", "rank"])
def test_recorded_matching(name: str) -> None:
    """Numbers: v7.0's `process_batch`. "rank": the most confident wins, not the best placed."""
    correct, _ = match_detections(RECORDED[f"pb.{name}.det"], RECORDED[f"pb.{name}.lab"])
    np.testing.assert_array_equal(correct, RECORDED[f"pb.{name}.correct"])


def test_iou_thresholds_are_those_of_v7() -> None:
    """In float32, as the IoUs that are compared with them: .65 in float64 is a larger number."""
    assert IOU_THRESHOLDS.dtype == np.float32
    np.testing.assert_array_equal(IOU_THRESHOLDS, RECORDED["pb.iouv"])


def test_matching_example() -> None:
    """The worked example of the v7.0 specification: the third label is nobody's best."""
    correct, label = match_detections(DETECTIONS, LABELS)
    assert correct.sum(1).tolist() == [10, 0, 0, 9, 0]
    assert label[correct.any(1)].tolist() == [0, 1]


def test_average_precision_example() -> None:
    """Numbers: the worked example of the v7.0 specification."""
    correct = np.array([[1, 1], [0, 0], [1, 0], [1, 1], [0, 0]], dtype=bool)
    metrics = ap_per_class(
        correct,
        np.array([0.9, 0.8, 0.7, 0.6, 0.5]),
        np.array([0, 0, 0, 1, 1]),
        np.array([0, 0, 0, 1, 2]),
    )
    np.testing.assert_allclose(metrics.ap, [[0.6672, 0.44555], [0.995, 0.995], [0, 0]], atol=1e-5)
    np.testing.assert_allclose(metrics.precision, [0.66667, 0.74775, 0], atol=1e-5)
    np.testing.assert_allclose(metrics.recall, [0.66667, 1, 0], atol=1e-5)
    np.testing.assert_allclose(metrics.f1, [0.66667, 0.85567, 0], atol=1e-5)
    assert metrics.tp.tolist() == [2, 1, 0]
    assert metrics.fp.tolist() == [1, 0, 0]
    assert metrics.fn.tolist() == [1, 0, 1]


def test_order_of_the_rows_does_not_matter_without_ties() -> None:
    rng = np.random.default_rng(0)
    correct, confidence = rng.random((50, 10)) < 0.5, rng.permutation(50) / 50
    predicted, target = rng.integers(0, 4, 50), rng.integers(0, 3, 30)
    shuffled = rng.permutation(50)
    one = ap_per_class(correct, confidence, predicted, target)
    other = ap_per_class(correct[shuffled], confidence[shuffled], predicted[shuffled], target)
    np.testing.assert_array_equal(one.ap, other.ap)
    assert summarise(one) == summarise(other)


def test_curves_fall_with_confidence_and_recall() -> None:
    metrics = recorded_metrics("normal")
    for curve in (metrics.recall_curve, metrics.envelope):
        assert curve.shape == (len(metrics.classes), len(metrics.confidence))
        assert (np.diff(curve, axis=1) <= 1e-12).all()


@pytest.mark.parametrize(
    ("detections", "labels"),
    [(0, 0), (5, 0), (0, 4), (5, 4)],
    ids=["nothing", "no-labels", "no-detections", "nothing-right"],
)
def test_no_hits_give_zeros_without_a_warning(detections: int, labels: int) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        metrics = ap_per_class(
            np.zeros((detections, 10), dtype=bool),
            np.linspace(0.9, 0.1, detections),
            np.zeros(detections),
            np.zeros(labels),
        )
        scores = summarise(metrics)
    assert (scores.precision, scores.recall, scores.map50, scores.map50_95) == (0, 0, 0, 0)
    assert (scores.fitness, scores.tp, scores.fp, scores.fn) == (0, 0, 0, labels)


def test_recorded_fitness() -> None:
    """Numbers: v7.0; columns precision, recall, mAP50, mAP50-95 and three losses."""
    rows = RECORDED["fitness.in"]
    found = [fitness(row[2], row[3]) for row in rows]
    np.testing.assert_allclose(found, RECORDED["fitness.out"], rtol=0, atol=1e-12)


@pytest.mark.parametrize("fraction", [0.1, 0.05])
def test_recorded_smoothing(fraction: float) -> None:
    """Numbers: v7.0's box filter."""
    found = smooth(RECORDED["smooth.in"], fraction)
    np.testing.assert_allclose(found, RECORDED[f"smooth.out_f{fraction}"], rtol=0, atol=1e-12)


NEIGHBOURS = np.array([[0, 10, 10, 30, 30], [1, 50, 10, 70, 30], [0, 12, 10, 32, 30]], np.float32)


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
def test_found_and_invented(rows: list[list[float]], found: list[bool]) -> None:
    detections = np.array(rows, np.float32).reshape(-1, 6)
    own, invented = found_and_invented(detections, NEIGHBOURS, NO_REGIONS)
    assert own.tolist() == found
    hits = match_detections(detections, NEIGHBOURS)[0][:, 0]
    assert hits.sum() == sum(found)
    assert invented.tolist() == (~hits).tolist()
    assert found_and_invented(detections, NEIGHBOURS[:0], NO_REGIONS)[0].shape == (0,)


def test_in_a_crowd_nothing_is_invented() -> None:
    detections = np.array([row(100, 0, 0.9), row(100, 1, 0.8)], np.float32)
    crowd = np.array([[0, 90, 0, 111, 40]], np.float32)  # holds a little more than half
    _, invented = found_and_invented(detections, NEIGHBOURS, crowd)
    assert invented.tolist() == [False, True]


def slow_matching(detections: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The definition, one detection and threshold at a time."""
    correct = np.zeros((len(detections), len(IOU_THRESHOLDS)), bool)
    overlap = iou_matrix(detections[:, :4], labels[:, 1:])
    for column, threshold in enumerate(IOU_THRESHOLDS):
        taken = set()
        for row, detection in enumerate(detections):
            own = np.where(labels[:, 0] == detection[5], overlap[row], -1)
            best = int(own.argmax())
            if own[best] >= threshold and best not in taken:
                taken.add(best)
                correct[row, column] = True
    return correct


@pytest.mark.parametrize("device", DEVICES)
def test_a_batch_is_matched_as_its_images(device: str) -> None:
    """Images of differing counts; many boxes and labels are equal, so IoUs tie."""
    rng = np.random.default_rng(3)
    detections, labels = np.zeros((5, 40, 6), np.float32), np.zeros((5, 9, 5), np.float32)
    labels[..., 0] = -1
    counts = [(40, 9), (40, 0), (0, 9), (7, 3), (40, 1)]
    for image, (found, known) in enumerate(counts):
        corners = rng.integers(0, 4, (known, 2)) * 10.0
        labels[image, :known] = np.column_stack([rng.integers(0, 2, known), corners, corners + 20])
        corners = rng.integers(0, 4, (found, 2)) * 10.0 + rng.integers(-2, 3, (found, 2))
        score = np.sort(rng.random(found))[::-1]
        columns = [corners, corners + 20, score, rng.integers(0, 2, found)]
        detections[image, :found] = np.column_stack(columns)
    given = (torch.from_numpy(array).to(device) for array in (detections, labels))
    matches = match_batch(*given, THRESHOLDS.to(device))
    label, taken, reached = (one.cpu().numpy() for one in matches)
    for image, (found, known) in enumerate(counts):
        own = detections[image, :found], labels[image, :known]
        correct, assigned = match_detections(*own)
        np.testing.assert_array_equal(
            correct_between(taken[image], reached[image])[:found], correct
        )
        hit = correct.any(1)
        np.testing.assert_array_equal(label[image, :found][hit], assigned[hit])
        if known:
            np.testing.assert_array_equal(correct, slow_matching(*own))
