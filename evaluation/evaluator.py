"""Accumulate the matches of a labelled split, image by image, on one rank or on several.

Shape legend: n detections and m labels of an image, T IoU thresholds.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from data.dataset_index import DatasetIndex
from evaluation.confusion_matrix import NO_REGIONS, ConfusionMatrix
from evaluation.metrics import (
    IOU_THRESHOLDS,
    BoolArray,
    ClassMetrics,
    Scores,
    ap_per_class,
    crowd_overlap,
    match_detections,
    summarise,
)
from evaluation.speed import Stopwatch
from ops.boxes import area
from utils.distributed import DistContext

SIZES = ("small", "medium", "large")
SIZE_LIMITS = (32.0**2, 96.0**2)
"""COCO's: areas in pixels of the original image from which an object is medium, and large."""


@dataclass(frozen=True)
class EvaluationConfig:
    """What an evaluation reports beside the metrics of each class."""

    report_confidence: float = 0.25
    """Confidence threshold of the counts and of the detections kept for pictures."""
    by_size: bool = False
    """Whether to compute the metrics of small, medium and large objects too."""
    stopwatch: Stopwatch | None = None
    """What times the stages, if anything does."""


@dataclass(frozen=True)
class CountsAtThreshold:
    """Counts at IoU 0.5 over all classes, at one confidence threshold."""

    confidence: float
    true_positives: int
    false_positives: int
    false_negatives: int
    recall: float
    """Mean over the classes that have labels."""


@dataclass(frozen=True)
class Evaluation:
    """The metrics of one pass over a labelled split."""

    scores: Scores
    classes: ClassMetrics
    labels_per_class: np.ndarray
    confusion: ConfusionMatrix
    at_confidence: CountsAtThreshold
    losses: tuple[float, float, float]
    """Mean over batches of box, objectness and class loss; zeros without a criterion."""
    by_size: tuple[ClassMetrics, ...] = ()
    """Metrics of small, medium and large objects alone, at the same confidence; if asked for."""
    detections: Mapping[int, np.ndarray] = field(default_factory=dict)
    """By position in the split: float32 [n, 6] (xyxy in pixels of the original, confidence,
    class), by falling confidence, those at or above `at_confidence.confidence`; where kept."""


@dataclass(frozen=True)
class ImageResult:
    """The matches of one image."""

    position: int
    """In the split."""
    batch: int
    """Number of its batch, by which the images of several ranks are ordered."""
    correct: BoolArray
    """[n, T]"""
    confidence: NDArray[np.floating]
    predicted: NDArray[np.int64]
    size: NDArray[np.int64]
    """[n] index into SIZES: of the matched label, or of the detection where there is none."""
    in_crowd: NDArray[np.int64]
    """[n] number of thresholds, from the lowest, up to which it lies in a crowd region."""
    target: NDArray[np.int64]
    """[m] classes of the ground truth."""
    target_size: NDArray[np.int64]
    detections: NDArray[np.floating]
    """Detections for the pictures of the report, [k, 6]."""


ARRAYS = (
    *("correct", "confidence", "predicted", "size", "in_crowd"),
    *("target", "target_size", "detections"),
)
_NO_IMAGE = ImageResult(
    position=0,
    batch=0,
    correct=np.zeros((0, len(IOU_THRESHOLDS)), bool),
    confidence=np.zeros(0, np.float32),
    **{name: np.zeros(0, np.int64) for name in ARRAYS[2:-1]},
    detections=np.zeros((0, 6), np.float32),
)


class Evaluator:
    """Accumulate per-image matches and compute detection metrics."""

    def __init__(self, num_classes: int, config: EvaluationConfig | None = None) -> None:
        self.num_classes = num_classes
        self.config = config or EvaluationConfig()
        self.confusion = ConfusionMatrix(num_classes)
        self.images: list[ImageResult] = []
        """In the order in which they were added."""
        self.losses: dict[int, Tensor] = {}
        """Box, objectness and class loss [3] by number of the batch."""

    def add(
        self,
        detections: NDArray[np.floating],
        labels: NDArray[np.floating],
        crowds: NDArray[np.floating] = NO_REGIONS,
        *,
        position: int = 0,
        batch: int = 0,
        matched: tuple[BoolArray, NDArray[np.integer]] | None = None,
    ) -> None:
        """Match one image: detections [n, 6] xyxy, confidence, class, by falling confidence; labels
        [m, 5] and crowd regions [k, 5] class, xyxy; all in pixels of the original. `matched` is
        what `match_detections` returns for it, if that is known.
        """
        self.confusion.add(detections, labels, crowds)
        correct, label = matched or match_detections(detections, labels)
        target_size = size_class(labels[:, 1:])
        size = size_class(detections[:, :4])
        hit = correct[:, 0]
        size[hit] = target_size[label[hit]]
        confidence = detections[:, 4]
        inside = crowd_overlap(detections, crowds)
        self.images.append(
            ImageResult(
                position=position,
                batch=batch,
                correct=correct,
                confidence=confidence,
                predicted=detections[:, 5].astype(np.int64),
                size=size,
                in_crowd=np.searchsorted(IOU_THRESHOLDS, inside, side="right"),
                target=labels[:, 0].astype(np.int64),
                target_size=target_size,
                detections=detections[confidence >= self.config.report_confidence],
            )
        )

    def add_losses(self, batch: int, losses: Tensor) -> None:
        """Add box, objectness and class loss [3] of a batch."""
        self.losses[batch] = losses

    def evaluation(self) -> Evaluation:
        """Compute the metrics of everything that was added."""
        correct, confidence, predicted, size, in_crowd, target, target_size, _ = self._columns()
        ignored = None
        if in_crowd.any():
            ignored = ~correct & (np.arange(len(IOU_THRESHOLDS)) < in_crowd[:, None])
        classes = ap_per_class(correct, confidence, predicted, target, ignored)
        by_size = []
        for s in range(len(SIZES)) if self.config.by_size else ():
            own = size == s
            alone = ap_per_class(
                *(correct[own], confidence[own], predicted[own], target[target_size == s]),
                None if ignored is None else ignored[own],
            )
            by_size.append(replace(alone, best_index=classes.best_index))
        counted = slice(None) if ignored is None else ~ignored[:, 0]
        losses = torch.stack(list(self.losses.values()) or [torch.zeros(3)])
        box, obj, cls = losses.mean(0).tolist()
        return Evaluation(
            scores=summarise(classes),
            classes=classes,
            labels_per_class=np.bincount(target, minlength=self.num_classes),
            confusion=self.confusion,
            at_confidence=counts_at_threshold(
                *(correct[counted, 0], confidence[counted], predicted[counted]),
                *(target, self.config.report_confidence),
            ),
            losses=(box, obj, cls),
            by_size=tuple(by_size),
            detections={image.position: image.detections for image in self.images},
        )

    def _columns(self) -> list[np.ndarray]:
        """Return each of ARRAYS of all images; the right shape and type also without any."""
        images = [*self.images, _NO_IMAGE]
        return [np.concatenate([getattr(one, name) for one in images]) for name in ARRAYS]

    def gather(self, processes: DistContext) -> Evaluator:
        """Return on rank 0 an evaluator of all ranks, equal to that of a single process; on other
        ranks this one.
        """
        if not processes.is_distributed:
            return self
        parts = processes.gather(self.to_bytes())
        if not processes.is_main:
            return self
        return merge([Evaluator.from_bytes(p, self.num_classes, self.config) for p in parts])

    def to_bytes(self) -> bytes:
        """Pack everything that was added as an npz archive of plain arrays, without pickles."""
        images, losses = self.images, list(self.losses.values())
        arrays = {
            "confusion": self.confusion.matrix,
            "place": np.array([(i.position, i.batch) for i in images], np.int64).reshape(-1, 2),
            "loss_batch": np.array(list(self.losses), np.int64),
            "losses": torch.stack(losses).numpy() if losses else np.zeros((0, 3)),
        }
        for name, column in zip(ARRAYS, self._columns(), strict=True):
            arrays[name] = column
            arrays[f"{name} counts"] = np.array([len(getattr(i, name)) for i in images], np.int64)
        archive = io.BytesIO()
        np.savez(archive, **arrays)  # type: ignore[arg-type]  # numpy's stub of `allow_pickle`
        return archive.getvalue()

    @classmethod
    def from_bytes(cls, content: bytes, num_classes: int, config: EvaluationConfig) -> Evaluator:
        """Unpack `to_bytes`, equal to the last bit."""
        with np.load(io.BytesIO(content), allow_pickle=False) as archive:
            arrays = dict(archive)
        evaluator = cls(num_classes, config)
        evaluator.confusion.matrix += arrays["confusion"]
        losses = torch.from_numpy(arrays["losses"])
        evaluator.losses = dict(zip(arrays["loss_batch"].tolist(), losses, strict=True))
        # The last piece, behind all images, is empty.
        rows = [np.split(arrays[n], np.cumsum(arrays[f"{n} counts"]))[:-1] for n in ARRAYS]
        for (position, batch), *own in zip(arrays["place"].tolist(), *rows, strict=True):
            evaluator.images.append(ImageResult(position, batch, *own))
        return evaluator


def merge(parts: Sequence[Evaluator]) -> Evaluator:
    """Return an evaluator of all parts, images and losses by rising number of their batch."""
    whole = Evaluator(parts[0].num_classes, parts[0].config)
    for part in parts:
        whole.confusion.matrix += part.confusion.matrix
    whole.images = sorted((i for part in parts for i in part.images), key=lambda i: i.batch)
    whole.losses = dict(sorted((n, loss) for part in parts for n, loss in part.losses.items()))
    return whole


def ground_truth(index: DatasetIndex, position: int) -> NDArray[np.float32]:
    """Return the labels [m, 5] of an image: class, xyxy in pixels of the original."""
    classes = index.classes_of(position)[:, None].astype(np.float32)
    return np.concatenate([classes, index.boxes_of(position)], axis=1)


def crowd_regions(index: DatasetIndex, position: int) -> NDArray[np.float32]:
    """Return the crowd regions [k, 5] of an image: class, xyxy in pixels of the original."""
    found = index.crowds_of(position)
    return np.column_stack([found.classes, found.boxes]).astype(np.float32)


def size_class(boxes: NDArray[np.floating]) -> NDArray[np.int64]:
    """Return the index into SIZES [n] of boxes [n, 4], xyxy in pixels of the original image."""
    classes: NDArray[np.int64] = np.digitize(area(boxes.astype(np.float64)), SIZE_LIMITS)
    return classes


def counts_at_threshold(
    correct: np.ndarray,
    confidence: np.ndarray,
    predicted: np.ndarray,
    target: np.ndarray,
    threshold: float,
) -> CountsAtThreshold:
    """Count the detections at or above a confidence threshold at IoU 0.5.

    `correct`, `confidence` and `predicted` [n] belong to detections, `target` [m] to labels.
    """
    above = confidence >= threshold
    hits = correct & above
    recalls = [hits[predicted == c].sum() / (target == c).sum() for c in np.unique(target)]
    true_positives = int(hits.sum())
    return CountsAtThreshold(
        confidence=threshold,
        true_positives=true_positives,
        false_positives=int(above.sum()) - true_positives,
        false_negatives=len(target) - true_positives,
        recall=float(np.mean(recalls)) if recalls else 0.0,
    )
