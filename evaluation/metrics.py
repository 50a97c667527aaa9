"""Match detections with labels and compute precision, recall and average precision.

Shape legend: n detections, m labels, c classes that have labels, T overlap thresholds.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ops.boxes import EPSILON, area, pairwise_iou

FloatArray = NDArray[np.floating]
Float64Array = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

IOU_THRESHOLDS: NDArray[np.float32] = np.linspace(0.5, 0.95, 10, dtype=np.float32)
"""COCO's, [T]; in float32 like the IoUs compared with them: .65, .7, .9 and .95 are larger in
float64, where an IoU of exactly that value would not count."""
THRESHOLDS = torch.from_numpy(IOU_THRESHOLDS.copy())
IOU_THRESHOLDS.setflags(write=False)
_CURVE_POINTS = 1000
_TINY = 1e-16


@dataclass(frozen=True)
class ClassMetrics:
    """Metrics of each class that has labels, in rising order of `classes` [c].

    `labels` counts the ground truth; `ap` is [c, T]. `precision`, `recall`, `f1`, `tp`, `fp` and
    `fn` [c] are at IoU 0.5 and the confidence of the highest smoothed mean F1: `best_index` on
    `confidence`, the shared axis [1000] of `precision_curve`, `recall_curve` and `f1_curve`
    [c, 1000]. `envelope` [c, 1000] is precision over recall 0 to 1 at IoU 0.5.
    """

    classes: NDArray[np.int64]
    labels: NDArray[np.int64]
    ap: Float64Array
    best_index: int
    confidence: Float64Array
    precision_curve: Float64Array
    recall_curve: Float64Array
    f1_curve: Float64Array
    envelope: Float64Array

    @property
    def precision(self) -> Float64Array:
        """The precision at the best confidence, [c]."""
        return self.precision_curve[:, self.best_index]

    @property
    def recall(self) -> Float64Array:
        """The recall at the best confidence, [c]."""
        return self.recall_curve[:, self.best_index]

    @property
    def f1(self) -> Float64Array:
        """The F1 at the best confidence, [c]."""
        return self.f1_curve[:, self.best_index]

    @property
    def tp(self) -> NDArray[np.int64]:
        """The true positives at the best confidence, [c]."""
        return (self.recall * self.labels).round().astype(np.int64)

    @property
    def fp(self) -> NDArray[np.int64]:
        """The false positives at the best confidence, [c]."""
        return (self.tp / (self.precision + _TINY) - self.tp).round().astype(np.int64)

    @property
    def fn(self) -> NDArray[np.int64]:
        """The false negatives at the best confidence, [c]."""
        return self.labels - self.tp

    def average_precision(self, class_count: int) -> Float64Array:
        """Return mAP50-95 of each class [c]; of one without labels, the mean of the others."""
        labelled = self.ap.mean(1) if len(self.classes) else np.zeros(0)
        filled = np.full(class_count, labelled.mean() if len(labelled) else 0.0)
        filled[self.classes] = labelled
        return filled


@dataclass(frozen=True)
class Scores:
    """Means over the classes that have labels; counts are sums over them.

    Precision, recall and the counts are at the confidence of the best mean F1, `confidence`.
    All 0 without labels or detections.
    """

    precision: float
    recall: float
    map50: float
    map50_95: float
    fitness: float
    confidence: float
    tp: int
    fp: int
    fn: int

    def __str__(self) -> str:
        """Return the metrics for a line of the log."""
        return (
            f"P {self.precision:.3f}  R {self.recall:.3f}  mAP50 {self.map50:.3f}  "
            f"mAP50-95 {self.map50_95:.3f}"
        )


def fitness(map50: float, map50_95: float) -> float:
    """Return v7.0's fitness, by which the best weights are chosen."""
    return 0.1 * map50 + 0.9 * map50_95


def iou_matrix(a: FloatArray, b: FloatArray) -> FloatArray:
    """Return `pairwise_iou` of arrays."""
    one, other = (torch.from_numpy(np.ascontiguousarray(boxes)) for boxes in (a, b))
    matrix: FloatArray = pairwise_iou(one, other).numpy()
    return matrix


def match_detections(
    detections: FloatArray, labels: FloatArray
) -> tuple[BoolArray, NDArray[np.int64]]:
    """Return which detections of an image are correct at each of IOU_THRESHOLDS, bool [n, T], and
    the index of the label each is assigned to [n], meaningless for one that is nowhere correct.

    `detections` is [n, 6]: xyxy, confidence, class, by falling confidence; `labels` is [m, 5]:
    class, xyxy. A detection is assigned to the label of its class with the highest IoU; of those
    assigned to one label with at least the threshold, the first is correct. As v7.0.
    """
    if not len(detections) or not len(labels):
        none = np.zeros((len(detections), len(IOU_THRESHOLDS)), dtype=bool)
        return none, np.zeros(len(detections), dtype=np.int64)
    found, known = (torch.from_numpy(np.ascontiguousarray(x))[None] for x in (detections, labels))
    label, taken, reached = (one[0].numpy() for one in match_batch(found, known, THRESHOLDS))
    return correct_between(taken, reached), label


def match_batch(
    detections: Tensor, labels: Tensor, thresholds: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Match each image of a batch as `match_detections`, on any device, without a wait of the host.

    Return for each detection [b, n] its label, the number of `thresholds` [T], rising, up to which
    one before it has taken that label, and the number that its IoU reaches: `correct_between` says
    what is correct. There is at least one label [b, m, 5]; class -1 is that of none.
    """
    overlap = pairwise_iou(detections[..., :4], labels[..., 1:5])
    overlap.masked_fill_(detections[..., 5:6] != labels[..., None, :, 0], -1.0)
    best, label = overlap.max(-1)
    reached = torch.searchsorted(thresholds.to(best.dtype), best, right=True, out_int32=True)
    same = label[..., :, None] == label[..., None, :]
    taken = (same * reached[..., None, :]).tril_(-1).amax(-1)
    return label, taken, reached


def correct_between(taken: NDArray[np.integer], reached: NDArray[np.integer]) -> BoolArray:
    """Return what is correct at each of IOU_THRESHOLDS, bool [..., T], from `match_batch`."""
    numbers = np.arange(len(IOU_THRESHOLDS))
    correct: BoolArray = (taken[..., None] <= numbers) & (numbers < reached[..., None])
    return correct


def crowd_overlap(detections: FloatArray, crowds: FloatArray) -> FloatArray:
    """Return the share of its area that each detection has in a crowd region of its class, [n].

    `detections` is [n, 6]: xyxy, confidence, class; `crowds` is [k, 5]: class, xyxy; of several
    regions the one with the largest share counts. COCO's measure.
    """
    if not len(detections) or not len(crowds):
        return np.zeros(len(detections), np.float32)
    low = np.maximum(detections[:, None, :2], crowds[:, 1:3])
    high = np.minimum(detections[:, None, 2:4], crowds[:, 3:5])
    own = area(detections[:, :4]).clip(min=EPSILON)
    shares = area(np.concatenate([low, high], axis=2)) / own[:, None]
    largest: FloatArray = np.where(detections[:, 5:6] == crowds[:, 0], shares, 0).max(1)
    return largest


def found_and_invented(
    detections: FloatArray, labels: FloatArray, crowds: FloatArray
) -> tuple[BoolArray, BoolArray]:
    """Return which labels [m, 5] are matched by a detection at IoU 0.5, bool [m], and which
    detections [n, 6] are false positives, bool [n].

    As many as true and false positives are counted: one in a crowd region [k, 5] is neither.
    """
    correct, label = match_detections(detections, labels)
    hit = correct[:, 0]
    found = np.zeros(len(labels), bool)
    found[label[hit]] = True
    invented: BoolArray = ~hit & (crowd_overlap(detections, crowds) < IOU_THRESHOLDS[0])
    return found, invented


def ap_per_class(
    correct: BoolArray,
    confidence: FloatArray,
    predicted: FloatArray,
    target: FloatArray,
    ignored: BoolArray | None = None,
) -> ClassMetrics:
    """Compute the metrics of each class from all detections of a split, as v7.0.

    `correct` [n, T] from `match_detections`, `confidence` [n] and `predicted` class [n] belong to
    the detections in any order (equal confidences keep theirs); `target` [m] holds the class of
    every label. Classes without labels are left out. The average precision is COCO's 101-point
    area closed with (recall 1, precision 0), so a perfect class has 0.995. A detection that is
    `ignored` [n, T] counts neither as true nor as false at that threshold.
    """
    classes, labels = np.unique(np.asarray(target).astype(np.int64), return_counts=True)
    axis = np.linspace(0, 1, _CURVE_POINTS)
    ap = np.zeros((len(classes), correct.shape[1]))
    precision, recall, envelope = (np.zeros((len(classes), len(axis))) for _ in range(3))

    for row, chosen in _by_class(confidence, predicted, classes):
        for column in range(correct.shape[1]):
            counted = chosen if ignored is None else chosen[~ignored[chosen, column]]
            if not len(counted):
                continue
            found = correct[counted, column].cumsum()
            recalls = found / (labels[row] + _TINY)
            precisions = found / np.arange(1, len(found) + 1)
            curve = _closed_envelope(recalls, precisions)
            ap[row, column] = _area(*curve)
            if column == 0:
                # numpy interpolates over rising values only, hence the two minus signs.
                scores = confidence[counted]
                recall[row] = np.interp(-axis, -scores, recalls, left=0)
                precision[row] = np.interp(-axis, -scores, precisions, left=1)
                envelope[row] = np.interp(axis, *curve)

    f1 = 2 * precision * recall / (precision + recall + _TINY)
    best = int(smooth(f1.mean(0), 0.1).argmax()) if len(classes) else 0
    return ClassMetrics(classes, labels, ap, best, axis, precision, recall, f1, envelope)


def summarise(metrics: ClassMetrics) -> Scores:
    """Compute means and sums over the classes that have labels."""
    if not len(metrics.classes) or not metrics.ap.any():
        missed = int(metrics.labels.sum())
        return Scores(0.0, 0.0, 0.0, 0.0, 0.0, 0.0, tp=0, fp=0, fn=missed)
    map50, map50_95 = float(metrics.ap[:, 0].mean()), float(metrics.ap.mean())
    return Scores(
        precision=float(metrics.precision.mean()),
        recall=float(metrics.recall.mean()),
        map50=map50,
        map50_95=map50_95,
        fitness=fitness(map50, map50_95),
        confidence=float(metrics.confidence[metrics.best_index]),
        tp=int(metrics.tp.sum()),
        fp=int(metrics.fp.sum()),
        fn=int(metrics.fn.sum()),
    )


def smooth(values: FloatArray, fraction: float) -> Float64Array:
    """Return the moving mean of `values` [k] over an odd window of about twice `fraction` of k,
    padded with the first and last value.
    """
    window = round(len(values) * fraction * 2) // 2 + 1
    return np.convolve(np.pad(values, window // 2, mode="edge"), np.ones(window) / window, "valid")


def _by_class(
    confidence: FloatArray, predicted: FloatArray, classes: NDArray[np.int64]
) -> Iterator[tuple[int, NDArray[np.int64]]]:
    """Yield row and detections, by falling confidence, of each class that has some."""
    order = np.lexsort((-confidence, predicted))  # stable, unlike a reversed sort
    starts = np.searchsorted(predicted[order], classes, side="left")
    ends = np.searchsorted(predicted[order], classes, side="right")
    for row, (start, end) in enumerate(zip(starts, ends, strict=True)):
        if start < end:
            yield row, order[start:end]


def _closed_envelope(
    recall: Float64Array, precision: Float64Array
) -> tuple[Float64Array, Float64Array]:
    """Return the curve from recall 0 to recall 1 with monotonically falling precision."""
    closed = np.concatenate([[1.0], precision, [0.0]])
    falling = np.maximum.accumulate(closed[::-1])[::-1]
    return np.concatenate([[0.0], recall, [1.0]]), falling


def _area(recall: Float64Array, precision: Float64Array) -> float:
    """Return the area under the curve, by trapezoids between 101 points of recall."""
    grid = np.linspace(0, 1, 101)
    height = np.interp(grid, recall, precision)
    return float(((height[1:] + height[:-1]) / 2 * np.diff(grid)).sum())
