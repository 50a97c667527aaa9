"""How good a network is: its detections on a labelled split, held against the labels.

python val.py --weights best.pt --data data.yaml [--task test]
python val.py --weights best.pt --index task/in/val-index.tsv
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from data.dataset_index import DatasetIndex
from data.datasets import EvaluationBatch
from data.loaders import LoaderConfig, evaluation_loader
from evaluation.coco import PACKAGE, coco_available, coco_metrics
from evaluation.evaluator import CountsAtThreshold, Evaluation, Evaluator
from evaluation.shares import BatchResult, RankResults, of_all
from evaluation.tables import class_table, coco_table, size_table, write_tables
from inference.predictor import Predictor
from models.loss import DetectionLoss
from ops.letterbox import boxes_to_original
from ops.nms import Detections
from utils.distributed import SINGLE_PROCESS, DistContext

__all__ = [
    "CountsAtThreshold",
    "Evaluation",
    "class_table",
    "evaluate",
    "no_evaluation",
]

log = logging.getLogger(__name__)

Watch = Callable[[int, np.ndarray], object]
"""Told of each image: position in the data set, detections [n, 6] in pixels of the original."""


def evaluate(
    predictor: Predictor,
    index: DatasetIndex,
    batches: Iterable[EvaluationBatch],
    *,
    criterion: DetectionLoss | None = None,
    report_confidence: float = 0.25,
    by_size: bool = False,
    watch: Watch | None = None,
    processes: DistContext = SINGLE_PROCESS,
) -> Evaluation:
    """Run the split through `predictor` and match its detections to the labels of `index`.

    Boxes are compared in pixels of the original images. Thresholds are the predictor's; v7.0
    evaluates at confidence 0.001 and NMS IoU 0.6 with one row per (box, class). `by_size` adds
    figures of small, medium and large objects; `watch` sees the detections of every image.

    Of several processes each looks at its own `batches`; the first one returns the evaluation of
    all, equal to that of one process, the others that of their share.
    """
    found = RankResults(Evaluator(len(index.class_names)))

    def look(batch: EvaluationBatch) -> tuple[EvaluationBatch, list[Detections], torch.Tensor]:
        maps, output = predictor.forward(batch.images)
        rows = predictor.candidates(batch.images, output)
        return batch, predictor.suppress(rows, multi_label=True), _loss(criterion, maps, batch)

    def detections() -> Iterator[tuple[int, np.ndarray]]:
        for batch, kept, loss in predictor.lanes.map(look, batches):
            found.batches.append(BatchResult(batch.number, batch.indices, loss))
            for position, plan, one in zip(batch.indices, batch.plans, kept, strict=True):
                rows = boxes_to_original(one.rows, plan).cpu().numpy()
                found.shown[position] = rows[rows[:, 4] >= report_confidence]
                yield position, rows

    found.tally = _tally(detections(), index, watch)
    found = of_all(found, processes)
    evaluation = found.tally.evaluation(
        report_confidence=report_confidence, losses=found.mean_losses(), by_size=by_size
    )
    return replace(evaluation, detections=found.shown)


def evaluate_stream(
    predictor: Predictor,
    index: DatasetIndex,
    *,
    batch_size: int,
    workers: int = -1,
    report_confidence: float = 0.25,
    by_size: bool = False,
    watch: Watch | None = None,
) -> Evaluation:
    """As `evaluate`, but the images come as in inference: read anew, and cut into tiles if the
    predictor does that. An image that cannot be read is named in the log and left out.
    """

    def detections() -> Iterator[tuple[int, np.ndarray]]:
        stream = predictor.stream(
            index.paths, batch_size=batch_size, workers=workers, multi_label=True
        )
        for prediction in stream:
            if prediction.error is None:
                yield prediction.position, prediction.detections
            else:
                log.warning("image left out: %s: %s", prediction.path, prediction.error)

    tally = _tally(detections(), index, watch)
    return tally.evaluation(report_confidence=report_confidence, by_size=by_size)


def _tally(
    found: Iterable[tuple[int, np.ndarray]], index: DatasetIndex, watch: Watch | None
) -> Evaluator:
    """The matches of every image's detections with its labels."""
    tally = Evaluator(len(index.class_names))
    for position, detections in found:
        tally.add(detections, _labels(index, position))
        if watch is not None:
            watch(position, detections)
    return tally


def no_evaluation(num_classes: int) -> Evaluation:
    """The figures of weights that nobody has looked at: zeros."""
    return Evaluator(num_classes).evaluation(report_confidence=0.0)


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


def final_report(
    predictor: Predictor,
    index: DatasetIndex,
    batches: Iterable[EvaluationBatch],
    folder: Path,
    *,
    report_confidence: float = 0.25,
) -> Evaluation:
    """Look once more at a split with the weights that are kept, and leave all tables in `folder`.

    By class and object size in the log and as CSV files; COCO's figures too where their package
    is installed.
    """
    found: list[tuple[int, np.ndarray]] = []
    names = predictor.class_names
    evaluation = evaluate(
        predictor,
        index,
        batches,
        report_confidence=report_confidence,
        by_size=True,
        watch=lambda *image: found.append(image),
    )
    coco = coco_metrics(found, index) if coco_available() else None
    shown = coco_table(coco) if coco else f"no COCO figures: {PACKAGE} is not installed"
    log.info("by size of the objects\n%s\n%s", size_table(evaluation, names), shown)
    write_tables(folder, evaluation, names, coco)
    return evaluation


def evaluate_split(
    predictor: Predictor,
    index: DatasetIndex,
    *,
    batch_size: int,
    workers: int = -1,
    watch: Watch | None = None,
) -> Evaluation:
    """The way of evaluating that suits the predictor: in v7.0's batches, or tile by tile."""
    if predictor.tiling is not None:
        return evaluate_stream(
            predictor, index, batch_size=batch_size, workers=workers, by_size=True, watch=watch
        )
    config = LoaderConfig(
        predictor.image_size, batch_size, stride=predictor.stride, workers=workers
    )
    loader = evaluation_loader(index, config)
    return evaluate(predictor, index, loader, by_size=True, watch=watch)
