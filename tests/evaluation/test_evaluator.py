"""Metrics accumulated over a split: counts at one confidence, by object size, on several ranks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from data.loaders import LoaderConfig, evaluation_loader
from evaluation.evaluator import (
    SIZES,
    Evaluation,
    EvaluationConfig,
    Evaluator,
    counts_at_threshold,
    merge,
    size_class,
)
from evaluation.metrics import IOU_THRESHOLDS, ap_per_class
from tests.evaluation.evaluation_example import assert_same, split
from utils.distributed import SINGLE_PROCESS, DistContext

SMALL, MEDIUM, LARGE = (10, 10, 30, 30), (50, 50, 110, 110), (150, 150, 350, 350)
BY_SIZE = EvaluationConfig(by_size=True)
CLASSES = 3


def test_counts_at_one_confidence() -> None:
    """Three labels of class 0, one of class 1. At 0.5: a hit and a miss of class 0, a hit of
    class 1; the second hit of class 0 is below. Recalls 1/3 and 1: mean 2/3.
    """
    counts = counts_at_threshold(
        correct=np.array([True, False, True, True]),
        confidence=np.array([0.9, 0.8, 0.4, 0.5]),
        predicted=np.array([0, 0, 0, 1]),
        target=np.array([0, 0, 0, 1]),
        threshold=0.5,
    )
    assert (counts.true_positives, counts.false_positives, counts.false_negatives) == (2, 1, 2)
    assert counts.recall == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    ("side", "size"),
    [(31.9, "small"), (32, "medium"), (95.9, "medium"), (96, "large"), (0, "small")],
)
def test_sizes_are_those_of_coco(side: float, size: str) -> None:
    boxes = np.array([[5, 5, 5 + side, 5 + side]])
    assert SIZES[size_class(boxes)[0]] == size


def evaluated(
    detections: list[tuple[float, ...]], labels: list[tuple[float, ...]], config: EvaluationConfig
) -> Evaluation:
    evaluator = Evaluator(2, config)
    evaluator.add(
        np.array(detections, np.float32).reshape(-1, 6), np.array(labels, np.float32).reshape(-1, 5)
    )
    return evaluator.evaluation()


def test_metrics_of_a_size_use_its_own_labels_and_detections() -> None:
    """Small: found, after a false positive. Medium: missed. Large: found alone."""
    evaluation = evaluated(
        [(*LARGE, 0.95, 1), (200, 10, 220, 30, 0.9, 0), (*SMALL, 0.8, 0)],
        [(0, *SMALL), (0, *MEDIUM), (1, *LARGE)],
        BY_SIZE,
    )
    small, medium, large = evaluation.by_size
    assert [m.classes.tolist() for m in (small, medium, large)] == [[0], [0], [1]]
    assert [m.labels.tolist() for m in (small, medium, large)] == [[1], [1], [1]]
    assert large.ap[0, 0] == pytest.approx(0.995)
    assert small.ap[0, 0] == pytest.approx(0.5, abs=0.01)  # precision 1/2 at every recall
    assert medium.ap[0, 0] == 0.0
    assert {m.best_index for m in evaluation.by_size} == {evaluation.classes.best_index}


def test_a_detection_has_the_size_of_the_label_it_matches() -> None:
    """A box of 31 x 31 pixels on a label of 33 x 33 is a true positive among the medium ones, and
    no false positive among the small ones.
    """
    small, medium, _ = evaluated([(50, 50, 81, 81, 0.9, 0)], [(0, 50, 50, 83, 83)], BY_SIZE).by_size
    assert len(small.classes) == 0
    assert medium.ap[0, 0] == pytest.approx(0.995)


def test_detections_are_kept_from_the_reported_confidence_on() -> None:
    detections = [(*SMALL, 0.8, 0), (*MEDIUM, 0.5, 0), (*LARGE, 0.4, 0)]
    evaluation = evaluated(detections, [], EvaluationConfig(0.5))
    assert evaluation.detections[0][:, 4].tolist() == pytest.approx([0.8, 0.5])
    assert evaluation.by_size == ()


def test_an_empty_split_has_zeros() -> None:
    evaluation = Evaluator(2, BY_SIZE).evaluation()
    assert evaluation.labels_per_class.tolist() == [0, 0]
    counts = evaluation.at_confidence
    assert (evaluation.scores.map50, counts.false_negatives, counts.recall) == (0, 0, 0)


def outcomes_by_loop(
    detections: np.ndarray, labels: np.ndarray, crowds: np.ndarray, threshold: float
) -> list[str]:
    """COCO's rule, one detection after the other: objects before regions, each object once."""
    candidates = [(row, False) for row in labels.tolist()] + [(r, True) for r in crowds.tolist()]
    outcomes, taken = [], set()
    for x1, y1, x2, y2, _, cls in detections.tolist():
        best, match = threshold, None
        for number, ((own, left, top, right, bottom), crowd) in enumerate(candidates):
            if own != cls or number in taken:
                continue
            if crowd and match is not None and not candidates[match][1]:
                break
            width, height = min(x2, right) - max(x1, left), min(y2, bottom) - max(y1, top)
            shared = max(width, 0) * max(height, 0)
            whole = (x2 - x1) * (y2 - y1)
            if not crowd:
                whole += (right - left) * (bottom - top) - shared
            if shared / whole >= best:
                best, match = shared / whole, number
        if match is None:
            outcomes.append("false")
        elif candidates[match][1]:
            outcomes.append("ignored")
        else:
            taken.add(match)
            outcomes.append("true")
    return outcomes


@pytest.mark.parametrize("seed", range(3))
def test_crowd_regions_are_ignored_as_coco_does(seed: int) -> None:
    """Objects apart from each other, where v7.0's matching is COCO's; three detections of each, and
    some anywhere. At each threshold the metrics are those without the ignored detections.
    """
    rng = np.random.default_rng(seed)
    evaluator, kept = Evaluator(2), [[] for _ in IOU_THRESHOLDS]
    for position in range(6):
        corners = np.stack(np.meshgrid(*[np.arange(0, 400, 100)] * 2), -1).reshape(-1, 2)
        boxes = np.concatenate([corners, corners + rng.uniform(50, 90, corners.shape)], axis=1)
        classes = rng.integers(0, 2, len(boxes))
        labels = np.column_stack([classes, boxes]).astype(np.float32)
        places = np.concatenate([np.repeat(boxes, 3, 0), rng.uniform(0, 200, (40, 4))])
        places[48:, 2:] = places[48:, :2] + rng.uniform(20, 200, (40, 2))
        places += rng.normal(0, 6, places.shape)
        predicted = np.concatenate([np.repeat(classes, 3), rng.integers(0, 2, 40)])
        confidence = np.sort(rng.random(len(places)))[::-1]
        mixed = rng.permutation(len(places))
        detections = np.column_stack([places[mixed], confidence, predicted[mixed]])
        detections = detections.astype(np.float32)
        regions = rng.uniform(0, 200, (2, 2))
        crowds = np.column_stack([[0, 1], regions, regions + rng.uniform(100, 250, (2, 2))])
        crowds = crowds.astype(np.float32)
        evaluator.add(detections, labels, crowds, position=position)
        for rows, threshold in zip(kept, IOU_THRESHOLDS.tolist(), strict=True):
            outcomes = outcomes_by_loop(detections, labels, crowds, threshold)
            rows += [
                (outcome == "true", row[4], row[5])
                for outcome, row in zip(outcomes, detections, strict=True)
                if outcome != "ignored"
            ]
    found, target = evaluator.evaluation(), evaluator.evaluation().classes.labels
    truth = np.repeat([0, 1], target)
    for column, rows in enumerate(kept):
        correct, confidence, predicted = map(np.array, zip(*rows, strict=True))
        alone = ap_per_class(correct[:, None], confidence, predicted, truth)
        np.testing.assert_array_equal(found.classes.ap[:, column], alone.ap[:, 0])
        if not column:
            np.testing.assert_array_equal(found.classes.precision, alone.precision)
            np.testing.assert_array_equal(found.classes.recall, alone.recall)
            above = confidence >= 0.25
            assert found.at_confidence.true_positives == (correct & above).sum()
            assert found.at_confidence.false_positives == (~correct & above).sum()
    assert len({len(rows) for rows in kept}) > 5
    assert len(kept[0]) < 6 * 88


def evaluator_of(batches: range) -> Evaluator:
    """Batches of one to three images with random boxes; half of the images have none."""
    evaluator = Evaluator(CLASSES, BY_SIZE)
    for number in batches:
        rng = np.random.default_rng(number)
        for place in range(1 + number % 3):
            position = 100 - 3 * number - place
            corners = rng.uniform(0, 60, (7, 2)).astype(np.float32)
            boxes = np.concatenate([corners, corners + 25], axis=1)
            classes = rng.integers(0, CLASSES, (7, 1))
            confidence = np.sort(rng.uniform(0, 1, (7, 1)), axis=0)[::-1]
            kept = 7 * (position % 2)
            rows = np.concatenate([boxes + 1, confidence, classes], axis=1).astype(np.float32)
            labels = np.concatenate([classes, boxes], axis=1).astype(np.float32)
            crowds = np.array([[number % CLASSES, 0, 0, 60, 60]] * (place % 2), np.float32)
            regions = crowds.reshape(-1, 5)
            evaluator.add(rows[:kept], labels[:kept], regions, position=position, batch=number)
        evaluator.add_losses(number, torch.from_numpy(rng.random(3)))
    return evaluator


@pytest.mark.parametrize(
    ("batches", "world"),
    [(9, 2), (10, 3), (1, 2), (0, 2)],
    ids=["two", "three", "nothing for the second", "nothing for any rank"],
)
def test_shards_merge_to_the_evaluation_of_one_process(batches: int, world: int) -> None:
    shards = [evaluator_of(range(rank, batches, world)) for rank in range(world)]
    sent = [Evaluator.from_bytes(shard.to_bytes(), CLASSES, BY_SIZE) for shard in shards]
    assert_same(merge(sent).evaluation(), evaluator_of(range(batches)).evaluation())


def test_every_batch_belongs_to_one_rank(tmp_path: Path) -> None:
    index = split(tmp_path, classes=2, images=7)
    loaders = [
        evaluation_loader(index, LoaderConfig(64, 2, workers=0), processes=who)
        for who in (SINGLE_PROCESS, *(DistContext(rank, 3, rank, 3) for rank in range(3)))
    ]
    (alone, *shards) = [{b.number: b.indices for b in loader} for loader in loaders]
    assert list(alone) == [0, 1, 2, 3]
    assert [list(shard) for shard in shards] == [[0, 3], [1], [2]]
    assert {number: own for shard in shards for number, own in shard.items()} == alone
    assert [len(loader) for loader in loaders] == [4, 2, 1, 1]
