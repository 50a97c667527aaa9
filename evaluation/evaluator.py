"""What a labelled split says of a network, gathered image by image from its detections."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from evaluation.confusion_matrix import ConfusionMatrix
from evaluation.metrics import (
    IOU_THRESHOLDS,
    BoolArray,
    ClassMetrics,
    Scores,
    ap_per_class,
    at_index,
    match_with_labels,
    summarise,
)
from ops.boxes import area

SIZES = ("small", "medium", "large")
SIZE_LIMITS = (32.0**2, 96.0**2)
"""Areas in pixels of the original image from which an object is medium, and large: COCO's."""


@dataclass(frozen=True)
class CountsAtThreshold:
    """What a user sees at one confidence: counts at IoU 0.5 over all classes."""

    confidence: float
    true_positives: int
    false_positives: int
    false_negatives: int
    recall: float
    """Mean over the classes that have labels."""


@dataclass(frozen=True)
class Evaluation:
    """Everything one pass over a labelled split tells."""

    scores: Scores
    classes: ClassMetrics
    labels_per_class: np.ndarray
    confusion: ConfusionMatrix
    at_confidence: CountsAtThreshold
    losses: tuple[float, float, float]
    """Mean over batches of box, objectness and class loss; zeros without a criterion."""
    by_size: tuple[ClassMetrics, ...] = ()
    """The same of small, medium and large objects alone, at the same confidence; if asked for."""
    detections: Mapping[int, np.ndarray] = field(default_factory=dict)
    """By position in the split: float32 [n, 6] (xyxy in pixels of the original, confidence,
    class), by falling confidence, those at or above `at_confidence.confidence`; where kept."""


@dataclass(frozen=True)
class Record:
    """Matches of one image: n detections, m labels."""

    correct: BoolArray
    """[n, T], at each of IOU_THRESHOLDS."""
    confidence: NDArray[np.floating]
    predicted: NDArray[np.int64]
    size: NDArray[np.int64]
    """[n] index into SIZES: of the label that is found, or of the detection that finds none."""
    target: NDArray[np.int64]
    target_size: NDArray[np.int64]


class Evaluator:
    """Collects the matches of a split."""

    def __init__(self, num_classes: int) -> None:
        self.num_classes = num_classes
        self.confusion = ConfusionMatrix(num_classes)
        self.records: list[Record] = []
        """Of each image, in the order in which they were added."""

    def add(self, detections: NDArray[np.floating], labels: NDArray[np.floating]) -> None:
        """One image: detections [n, 6] xyxy, confidence, class, by falling confidence; labels
        [m, 5] class, xyxy; both in pixels of the original.
        """
        self.confusion.add(detections, labels)
        correct, label = match_with_labels(detections, labels)
        target_size = size_class(labels[:, 1:])
        size = size_class(detections[:, :4])
        found = correct[:, 0]
        size[found] = target_size[label[found]]
        self.records.append(
            Record(
                correct,
                detections[:, 4],
                detections[:, 5].astype(np.int64),
                size,
                labels[:, 0].astype(np.int64),
                target_size,
            )
        )

    def evaluation(
        self,
        *,
        report_confidence: float,
        losses: tuple[float, float, float] = (0.0, 0.0, 0.0),
        by_size: bool = False,
    ) -> Evaluation:
        """The figures of everything that was added."""
        records = [*self.records, _nothing()]  # so that an empty split has columns too
        correct = np.concatenate([r.correct for r in records])
        confidence = np.concatenate([r.confidence for r in records])
        predicted = np.concatenate([r.predicted for r in records])
        target = np.concatenate([r.target for r in records])
        classes = ap_per_class(correct, confidence, predicted, target)
        sizes: tuple[ClassMetrics, ...] = ()
        if by_size:
            size = np.concatenate([r.size for r in records])
            target_size = np.concatenate([r.target_size for r in records])
            each = [(size == s, target_size == s) for s in range(len(SIZES))]
            alone = [
                ap_per_class(correct[own], confidence[own], predicted[own], target[labels])
                for own, labels in each
            ]
            sizes = tuple(at_index(metrics, classes.best_index) for metrics in alone)
        return Evaluation(
            scores=summarise(classes),
            classes=classes,
            labels_per_class=np.bincount(target, minlength=self.num_classes),
            confusion=self.confusion,
            at_confidence=operating_point(
                correct[:, 0], confidence, predicted, target, report_confidence
            ),
            losses=losses,
            by_size=sizes,
        )


def _nothing() -> Record:
    none = np.zeros(0, np.int64)
    return Record(
        np.zeros((0, len(IOU_THRESHOLDS)), bool), np.zeros(0, np.float32), none, none, none, none
    )


def size_class(boxes: NDArray[np.floating]) -> NDArray[np.int64]:
    """Index into SIZES [n] of boxes [n, 4], xyxy in pixels of the original image."""
    return np.digitize(area(boxes.astype(np.float64)), SIZE_LIMITS)


def operating_point(
    correct: np.ndarray,
    confidence: np.ndarray,
    predicted: np.ndarray,
    target: np.ndarray,
    threshold: float,
) -> CountsAtThreshold:
    """Counts at IoU 0.5 of the detections at or above `threshold`.

    `correct`, `confidence` and `predicted` [n] are of the detections, `target` [m] of the labels.
    """
    shown = confidence >= threshold
    hits = correct & shown
    present = np.unique(target)
    recalls = [hits[predicted == c].sum() / (target == c).sum() for c in present]
    true_positives = int(hits.sum())
    return CountsAtThreshold(
        confidence=threshold,
        true_positives=true_positives,
        false_positives=int(shown.sum()) - true_positives,
        false_negatives=len(target) - true_positives,
        recall=float(np.mean(recalls)) if recalls else 0.0,
    )
