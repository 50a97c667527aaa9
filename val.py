"""How good a network is: its detections on a labelled split, held against the labels.

python val.py --weights best.pt --data data.yaml [--task test]
python val.py --weights best.pt --index task/in/val-index.tsv
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from infer import Predictor, load_predictor
from models.loss import DetectionLoss
from utils.coco_json import COCO_IDS, write_detections
from utils.command_line import run_command
from utils.confusion import ConfusionMatrix
from utils.container import log_to_console
from utils.dataloaders import EvaluationBatch, evaluation_loader
from utils.detection_files import DetectionFiles, FileChoice
from utils.device import device_of
from utils.drawing import caption, draw_boxes, tile
from utils.images import read_image
from utils.labels import DatasetIndex
from utils.letterbox import boxes_to_original
from utils.metrics import ClassMetrics, Scores, ap_per_class, match_detections, summarise
from utils.nms import Kept
from utils.single_class import NAME as ONE_CLASS
from utils.val_command import ValCommand, parse_val_command

log = logging.getLogger(__name__)

Watch = Callable[[int, np.ndarray], object]
"""Told of each image: position in the data set, detections [n, 6] in pixels of the original."""

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
    watch: Watch | None = None,
) -> Evaluation:
    """Run the split through `predictor` and match its detections to the labels of `index`.

    Boxes are compared in pixels of the original images. Thresholds are the predictor's; v7.0
    evaluates at confidence 0.001 and NMS IoU 0.6 with one row per (box, class). `watch` sees
    the detections of every image.
    """
    records: list[_Record] = []
    losses: list[torch.Tensor] = []
    confusion = ConfusionMatrix(len(index.class_names))

    def look(batch: EvaluationBatch) -> tuple[EvaluationBatch, list[Kept], torch.Tensor]:
        maps, output = predictor.forward(batch.images)
        return batch, predictor.suppress(output, multi_label=True), _loss(criterion, maps, batch)

    for batch, kept, loss in predictor.lanes.map(look, batches):
        losses.append(loss)
        for position, plan, found in zip(batch.indices, batch.plans, kept, strict=True):
            detections = boxes_to_original(found.rows, plan).cpu().numpy()
            if watch is not None:
                watch(position, detections)
            labels = _labels(index, position)
            confusion.add(detections, labels)
            records.append(_match(detections, labels))
    return _summarise(records, confusion, losses, report_confidence)


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


def draw_predictions(predictor: Predictor, index: DatasetIndex, *, most: int = 8) -> np.ndarray:
    """A BGR sheet: images of the split with their labels (left) and detections (right)."""
    names = predictor.class_names
    chosen = list(range(0, len(index), max(len(index) // most, 1)))[:most]
    paths = [index.paths[position] for position in chosen]
    found = sorted(predictor.stream(paths, batch_size=most, workers=0), key=lambda p: p.position)
    tiles = []
    for prediction in found:
        if prediction.error is not None:
            continue
        image, position = read_image(prediction.path), chosen[prediction.position]
        rows = prediction.detections
        labelled = draw_boxes(image, index.boxes_of(position), index.classes_of(position), names)
        detected = draw_boxes(image, rows[:, :4], rows[:, 5], names, rows[:, 4])
        tiles += [caption(labelled, "labels"), caption(detected, "detections")]
    return tile(tiles)


def main(arguments: Sequence[str] | None = None) -> None:
    """Evaluate a weights file on labelled images: a table, and the files asked for."""
    log_to_console()
    command = parse_val_command(sys.argv[1:] if arguments is None else arguments)
    for note in command.notes:
        log.warning("note: %s", note)
    settings = command.settings
    predictor = load_predictor(command.weights, settings, device_of(command.device))
    names = predictor.class_names
    index, report = command.read_data(names)
    if command.single_class:
        names = (ONE_CLASS,)
        index = replace(index, classes=np.zeros_like(index.classes), class_names=names)
        predictor.single_class = True
    loader = evaluation_loader(
        index,
        image_size=predictor.image_size,
        batch_size=settings.batch_size,
        stride=predictor.stride,
        workers=settings.workers,
    )
    found: list[tuple[int, np.ndarray]] = []
    watch = (lambda *image: found.append(image)) if command.run else None
    evaluation = evaluate(predictor, index, loader, watch=watch)
    log.info("%s\n%s", "\n".join(report.lines()), class_table(evaluation, names))
    write_files(command, index, found)


def write_files(
    command: ValCommand, index: DatasetIndex, found: Sequence[tuple[int, np.ndarray]]
) -> None:
    """The files that a command asks for, from (position, detections [n, 6]) of each image."""
    if command.run is None:
        return
    folder = command.run.make()
    if command.save_labels:
        choice = FileChoice(pictures=False, labels=True, confidences=command.save_confidences)
        files = DetectionFiles(folder, Path(), index.class_names, choice)
        for position, rows in found:
            height, width = index.sizes[position].tolist()
            files.write(index.paths[position], rows, (height, width))
    if command.save_json:
        target = folder / f"{command.weights.stem}_predictions.json"
        count = write_detections(
            target,
            ((index.paths[position], rows) for position, rows in found),
            category_ids=COCO_IDS if command.is_coco else None,
        )
        log.info("%d detections in COCO's form: %s", count, target)
    log.info("files are in %s", folder)


if __name__ == "__main__":
    sys.exit(run_command(main))
