"""Run a detector over a labelled split and compute its metrics."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np

from data.dataset_index import DatasetIndex
from data.datasets import EvaluationBatch
from data.loaders import LoaderConfig, evaluation_loader
from evaluation.batches import EvaluationWork
from evaluation.coco import PACKAGE, coco_available, coco_metrics
from evaluation.evaluator import (
    Evaluation,
    EvaluationConfig,
    Evaluator,
    crowd_regions,
    ground_truth,
)
from evaluation.speed import Stopwatch
from evaluation.tables import coco_table, size_table, write_tables
from inference.predictor import Predictor
from models.loss import DetectionLoss
from utils.device import Upload
from utils.distributed import SINGLE_PROCESS, DistContext
from utils.language.catalogue import ENGLISH
from utils.progress import progress_bar

log = logging.getLogger(__name__)

ImageCallback = Callable[[int, np.ndarray], object]
"""Called with each image's position in the split and its detections [n, 6] (xyxy in pixels of the
original, confidence, class)."""


def evaluate(
    predictor: Predictor,
    index: DatasetIndex,
    batches: Iterable[EvaluationBatch],
    config: EvaluationConfig | None = None,
    *,
    criterion: DetectionLoss | None = None,
    on_image: ImageCallback | None = None,
    processes: DistContext = SINGLE_PROCESS,
) -> Evaluation:
    """Evaluate a split in batches, as v7.0: one row per box and class, IoU in pixels of the
    original images. The thresholds are the predictor's; v7.0's are confidence 0.001, NMS IoU 0.6.

    With several ranks each passes its own `batches`; rank 0 returns the evaluation of all, equal to
    that of a single process, the others that of their shard.
    """
    evaluator = Evaluator(len(index.class_names), config)
    stopwatch = evaluator.config.stopwatch
    work = EvaluationWork(
        predictor, index, criterion, Upload(predictor.pool.device), stopwatch=stopwatch
    )
    for done in predictor.pool.pipeline(work.steps, batches):
        number = done.batch.number
        if done.losses is not None:
            evaluator.add_losses(number, done.losses)
        for position, image in zip(done.batch.indices, done.images, strict=True):
            crowds = crowd_regions(index, position)
            if stopwatch:
                stopwatch.images += 1
            evaluator.add(
                *(image.detections, image.labels, crowds),
                position=position,
                batch=number,
                matched=image.matched,
            )
            if on_image is not None:
                on_image(position, image.detections)
    return evaluator.gather(processes).evaluation()


def evaluate_stream(
    predictor: Predictor,
    index: DatasetIndex,
    config: EvaluationConfig | None = None,
    *,
    on_image: ImageCallback | None = None,
) -> Evaluation:
    """Evaluate a split as for inference, in tiles if the predictor has them.

    Images are turned upright if the split's are. An unreadable image is logged and left out.
    """
    evaluator = Evaluator(len(index.class_names), config)
    predictor = replace(predictor, config=replace(predictor.config, upright=index.upright))
    stream, stopwatch = predictor.stream(index.paths, multi_label=True), evaluator.config.stopwatch
    for prediction in progress_bar(stream, "evaluation", total=len(index)):
        if prediction.error is not None:
            log.warning("skipped %s: %s", prediction.path, prediction.error)
            continue
        if stopwatch:
            stopwatch.images += 1
        position, detections = prediction.position, prediction.detections
        labels, crowds = ground_truth(index, position), crowd_regions(index, position)
        evaluator.add(detections, labels, crowds, position=position)
        if on_image is not None:
            on_image(position, detections)
    return evaluator.evaluation()


def evaluate_split(
    predictor: Predictor, index: DatasetIndex, *, on_image: ImageCallback | None = None
) -> Evaluation:
    """Evaluate a split, by object size too: in v7.0's batches, or in tiles if there are any.

    Log how long an image took: without stages where there are tiles.
    """
    with Stopwatch(predictor.pool.device) as stopwatch:
        config = EvaluationConfig(by_size=True, stopwatch=stopwatch)
        evaluation = _evaluate_split(predictor, index, config, on_image)
    log.info("%s", stopwatch.line(predictor.pool.count))
    return evaluation


def _evaluate_split(
    predictor: Predictor,
    index: DatasetIndex,
    config: EvaluationConfig,
    on_image: ImageCallback | None,
) -> Evaluation:
    own = predictor.config
    if own.tiling is not None:
        return evaluate_stream(predictor, index, config, on_image=on_image)
    batching = LoaderConfig(
        *(predictor.image_size, own.batch_size, predictor.network.stride, own.workers),
        on_gpu=predictor.pool.device.type == "cuda",
    )
    loader = evaluation_loader(index, batching)
    batches = progress_bar(loader, "evaluation", total=len(loader), unit="batch")
    return evaluate(predictor, index, batches, config, on_image=on_image)


def final_report(
    predictor: Predictor,
    index: DatasetIndex,
    batches: Iterable[EvaluationBatch],
    folder: Path,
    *,
    report_confidence: float = 0.25,
    language: str = ENGLISH,
) -> Evaluation:
    """Evaluate the best weights; log and write all tables into `folder`.

    By class and object size; COCO's metrics too where their package is installed.
    """
    found: list[tuple[int, np.ndarray]] = []
    names = predictor.class_names
    evaluation = evaluate(
        predictor,
        index,
        batches,
        EvaluationConfig(report_confidence, by_size=True),
        on_image=lambda *image: found.append(image),
    )
    coco = coco_metrics(found, index) if coco_available() else None
    shown = coco_table(coco) if coco else f"no COCO metrics: {PACKAGE} is not installed"
    by_size = size_table(evaluation, names, language=language)
    log.info("by object size\n%s\n%s", by_size, shown)
    write_tables(folder, evaluation, names, coco)
    return evaluation


def no_evaluation(num_classes: int) -> Evaluation:
    """Return metrics of zero, for weights that were not evaluated."""
    return Evaluator(num_classes, EvaluationConfig(report_confidence=0.0)).evaluation()
