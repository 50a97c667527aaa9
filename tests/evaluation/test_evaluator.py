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
            evaluator.add(rows[:kept], labels[:kept], position=position, batch=number)
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
