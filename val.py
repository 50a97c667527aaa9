"""How good a network is: its detections on a labelled split, held against the labels.

python val.py --weights best.pt --index task/in/val-index.tsv
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch

from infer import Predictor, Thresholds
from models.checkpoint import build_detector, load_checkpoint
from models.loss import DetectionLoss
from utils.config import TrainSettings
from utils.confusion import ConfusionMatrix
from utils.container import log_to_console
from utils.dataloaders import EvaluationBatch, evaluation_loader
from utils.device import gpu_ids_of, select_device
from utils.labels import DatasetIndex, read_dataset
from utils.letterbox import boxes_to_original
from utils.metrics import ClassMetrics, Scores, ap_per_class, match_detections, summarise
from utils.nms import Kept

log = logging.getLogger(__name__)

IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10)


@dataclass(frozen=True)
class OperatingPoint:
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
    at_confidence: OperatingPoint
    losses: tuple[float, float, float]
    """Mean over batches of box, objectness and class loss; zeros without a criterion."""
    detections: Mapping[int, np.ndarray] = field(default_factory=dict)
    """By position in the split: float32 [n, 6] (xyxy in pixels of the original, confidence,
    class), by falling confidence, those at or above `at_confidence.confidence`."""


@dataclass(frozen=True)
class _Record:
    """Matches of one image: correct [n, 10], confidence [n], predicted [n], target [m]."""

    correct: np.ndarray
    confidence: np.ndarray
    predicted: np.ndarray
    target: np.ndarray


def evaluate(
    predictor: Predictor,
    index: DatasetIndex,
    batches: Iterable[EvaluationBatch],
    *,
    criterion: DetectionLoss | None = None,
    report_confidence: float = 0.25,
) -> Evaluation:
    """Run the split through `predictor` and match its detections to the labels of `index`.

    Boxes are compared in pixels of the original images. Thresholds are the predictor's; v7.0
    evaluates at confidence 0.001 and NMS IoU 0.6 with one row per (box, class).
    """
    records: list[_Record] = []
    shown: dict[int, np.ndarray] = {}
    losses: list[torch.Tensor] = []
    confusion = ConfusionMatrix(len(index.class_names))

    def look(batch: EvaluationBatch) -> tuple[EvaluationBatch, list[Kept], torch.Tensor]:
        maps, output = predictor.forward(batch.images)
        return batch, predictor.suppress(output, multi_label=True), _loss(criterion, maps, batch)

    for batch, kept, loss in predictor.lanes.map(look, batches):
        losses.append(loss)
        for position, plan, found in zip(batch.indices, batch.plans, kept, strict=True):
            detections = boxes_to_original(found.rows, plan).cpu().numpy()
            labels = _labels(index, position)
            confusion.add(detections, labels)
            shown[position] = detections[detections[:, 4] >= report_confidence]
            records.append(_match(detections, labels))
    return replace(_summarise(records, confusion, losses, report_confidence), detections=shown)


def _loss(
    criterion: DetectionLoss | None, maps: list[torch.Tensor], batch: EvaluationBatch
) -> torch.Tensor:
    """Box, objectness and class loss of one batch, [3]; zeros without a criterion."""
    if criterion is None:
        return torch.zeros(3)
    with torch.no_grad():
        parts = criterion(maps, batch.targets.to(maps[0].device))
    return torch.stack([parts.box, parts.obj, parts.cls]).cpu()


def _labels(index: DatasetIndex, position: int) -> np.ndarray:
    """Labels [m, 5] of one image: class, xyxy in original pixels."""
    return np.concatenate(
        [index.classes_of(position)[:, None].astype(np.float32), index.boxes_of(position)], axis=1
    )


def _match(detections: np.ndarray, labels: np.ndarray) -> _Record:
    correct = match_detections(detections, labels, IOU_THRESHOLDS)
    return _Record(
        correct, detections[:, 4], detections[:, 5].astype(np.int64), labels[:, 0].astype(np.int64)
    )


def _summarise(
    records: Sequence[_Record],
    confusion: ConfusionMatrix,
    losses: Sequence[torch.Tensor],
    report_confidence: float,
) -> Evaluation:
    correct = np.concatenate([r.correct for r in records] or [np.zeros((0, 10), bool)])
    confidence = np.concatenate([r.confidence for r in records] or [np.zeros(0)])
    predicted = np.concatenate([r.predicted for r in records] or [np.zeros(0, np.int64)])
    target = np.concatenate([r.target for r in records] or [np.zeros(0, np.int64)])
    classes = ap_per_class(correct, confidence, predicted, target)
    mean_losses = torch.stack(list(losses)).mean(0).tolist() if losses else [0.0, 0.0, 0.0]
    num_classes = len(confusion.matrix) - 1
    return Evaluation(
        scores=summarise(classes),
        classes=classes,
        labels_per_class=np.bincount(target, minlength=num_classes),
        confusion=confusion,
        at_confidence=_operating_point(
            correct[:, 0], confidence, predicted, target, report_confidence
        ),
        losses=(mean_losses[0], mean_losses[1], mean_losses[2]),
    )


def _operating_point(
    correct: np.ndarray,
    confidence: np.ndarray,
    predicted: np.ndarray,
    target: np.ndarray,
    threshold: float,
) -> OperatingPoint:
    """Counts at IoU 0.5 of the detections at or above `threshold`."""
    shown = confidence >= threshold
    hits = correct & shown
    present = np.unique(target)
    recalls = [hits[predicted == c].sum() / (target == c).sum() for c in present]
    true_positives = int(hits.sum())
    return OperatingPoint(
        confidence=threshold,
        true_positives=true_positives,
        false_positives=int(shown.sum()) - true_positives,
        false_negatives=len(target) - true_positives,
        recall=float(np.mean(recalls)) if recalls else 0.0,
    )


def class_table(evaluation: Evaluation, class_names: Sequence[str]) -> str:
    """A table of precision, recall and average precision per class, for the log."""
    width = max([len(name) for name in class_names] + [5])
    heading = ("labels", "P", "R", "mAP50", "mAP50-95")
    lines = [f"{'class':<{width}}" + "".join(f"{word:>10}" for word in heading)]
    scores, table = evaluation.scores, evaluation.classes
    rows = [
        (
            "all",
            int(evaluation.labels_per_class.sum()),
            scores.precision,
            scores.recall,
            scores.map50,
            scores.map50_95,
        )
    ]
    rows += [
        (
            class_names[c],
            int(evaluation.labels_per_class[c]),
            float(table.precision[i]),
            float(table.recall[i]),
            float(table.ap[i, 0]),
            float(table.ap[i].mean()),
        )
        for i, c in enumerate(table.classes)
    ]
    lines += [
        f"{name:<{width}}{count:>10}" + "".join(f"{v:>10.3f}" for v in values)
        for name, count, *values in rows
    ]
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    """Evaluate a weights file on an index of labelled images and print the table."""
    defaults = TrainSettings()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--index", type=Path, required=True, help="a YMIR index: image TAB labels")
    parser.add_argument("--img-size", "--imgsz", type=int, default=defaults.img_size)
    parser.add_argument("--batch-size", type=int, default=defaults.batch_size)
    parser.add_argument("--conf-thres", type=float, default=defaults.conf_thres)
    parser.add_argument("--iou-thres", type=float, default=defaults.iou_thres)
    parser.add_argument("--gpu-id", default="", help="for example 0; empty for the CPU")
    options = parser.parse_args(arguments)
    log_to_console()
    checkpoint = load_checkpoint(options.weights)
    device = select_device(gpu_ids_of(options.gpu_id))
    predictor = Predictor(
        build_detector(checkpoint),
        checkpoint.class_names,
        device=device,
        image_size=options.img_size,
        thresholds=Thresholds(options.conf_thres, options.iou_thres, defaults.max_det),
    )
    index, report = read_dataset(
        options.index, checkpoint.class_names, root=options.index.parent, max_bad_fraction=1.0
    )
    loader = evaluation_loader(
        index,
        image_size=predictor.image_size,
        batch_size=options.batch_size,
        stride=predictor.stride,
        workers=defaults.workers,
    )
    evaluation = evaluate(predictor, index, loader)
    log.info("%s\n%s", "\n".join(report.lines()), class_table(evaluation, checkpoint.class_names))


if __name__ == "__main__":
    main()
