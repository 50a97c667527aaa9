"""Trains a detector: the loop, and what is kept of it.

    python train.py --data data.yaml --cfg yolov5n --img 320 --batch-size 16 --epochs 100
    python train.py --train task/in/train-index.tsv --val task/in/val-index.tsv \
        --class-names WBC RBC Platelets --output runs/cells model=yolov5n img_size=320 epochs=100
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from export import export_onnx, verify_onnx
from infer import Predictor, Thresholds
from models.checkpoint import build_detector, checkpoint_of, load_checkpoint
from models.detector import Detector
from models.loss import DetectionLoss
from utils.allocator import keep_freed_memory
from utils.autoanchor import AnchorRules, fit_anchors
from utils.command_line import run_command
from utils.config import TrainSettings
from utils.container import log_to_console
from utils.dataloaders import (
    Batch,
    EvaluationLoader,
    TrainingLoader,
    evaluation_loader,
    training_loader,
)
from utils.device import autocast, describe, device_of
from utils.drawing import draw_batch
from utils.ema import AverageModel
from utils.errors import Code, TaskError
from utils.keeper import Keeper, Saved
from utils.labels import DatasetIndex
from utils.optimizer import Stepper, build_optimizer
from utils.plots import draw_confusion, draw_learning_curves, draw_precision_recall
from utils.progress import Progress
from utils.recipe import augmentation, criterion, schedule, starting_network
from utils.run_record import RunRecord
from utils.schedule import Schedule, scaled_weight_decay
from utils.seeding import seed_everything
from utils.train_command import parse_train_command
from val import Evaluation, class_table, draw_predictions, evaluate

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainingJob:
    """One training: what to learn from, with which settings, and where the results go."""

    settings: TrainSettings
    train: DatasetIndex
    validation: DatasetIndex
    device: torch.device
    folder: Path
    """For results.csv and pictures."""
    stage_folder: Callable[[str], Path]
    """Folder of a stage's weights, by its name."""
    on_saved: Callable[[Saved], None]
    """Told after each file is whole: the caller reports it before the next step can fail."""
    tensorboard: Path | None = None
    weights: Path | None = None
    """A checkpoint to start from; None trains from scratch."""


@dataclass
class Run:
    """The moving parts of a training."""

    job: TrainingJob
    record: RunRecord
    network: Detector
    average: AverageModel[Detector]
    criterion: DetectionLoss
    stepper: Stepper
    schedule: Schedule
    loader: TrainingLoader
    evaluation_batches: EvaluationLoader
    image_size: int


def train(job: TrainingJob, progress: Progress) -> Saved:
    """Train for the epochs asked; return the best weights, already saved and reported.

    Evaluates the averaged weights after every epoch. `best` is rewritten when the fitness
    (0.1 mAP50 + 0.9 mAP50-95) rises, `last` after every epoch.
    """
    keeper = Keeper(job.stage_folder, job.on_saved)
    with RunRecord(job.folder, job.tensorboard) as record:
        with progress.stage(0.05):
            run = prepare(job, record)
        with progress.stage(0.88) as part:
            for epoch in range(job.settings.epochs):
                with part.stage(1 / job.settings.epochs) as share:
                    train_and_evaluate(run, epoch, keeper, share)
        with progress.stage(0.07) as part:
            return finish(run, keeper, part)


def prepare(job: TrainingJob, record: RunRecord) -> Run:
    """Network, data and optimiser, ready for the first step."""
    settings, device = job.settings, job.device
    if device.type == "cpu":
        keep_freed_memory()
    seed_everything(settings.seed)
    network = starting_network(settings.model, job.weights, job.train.class_names, settings.anchors)
    network = network.to(device).to(memory_format=torch.channels_last)
    stride = int(network.stride.max())
    image_size = max(-(-settings.img_size // stride) * stride, 2 * stride)
    fit_anchors(network, job.train, image_size, AnchorRules.of(settings))
    loader = training_loader(
        job.train,
        image_size=image_size,
        batch_size=settings.batch_size,
        seed=settings.seed,
        augmentation=augmentation(settings),
        workers=settings.workers,
        cache=settings.cache,
        device=device,
    )
    evaluation_batches = evaluation_loader(
        job.validation,
        image_size=image_size,
        batch_size=settings.batch_size,
        stride=stride,
        workers=settings.workers,
        cache=settings.cache,
        device=device,
    )
    optimizer = build_optimizer(
        network,
        lr=settings.lr0,
        momentum=settings.momentum,
        weight_decay=scaled_weight_decay(
            settings.weight_decay, settings.batch_size, settings.nominal_batch_size
        ),
    )
    return Run(
        job=job,
        record=record,
        network=network,
        average=AverageModel(network),
        criterion=criterion(settings, network, image_size).to(device),
        stepper=Stepper(optimizer),
        schedule=schedule(settings, len(loader)),
        loader=loader,
        evaluation_batches=evaluation_batches,
        image_size=image_size,
    )


def train_and_evaluate(run: Run, epoch: int, keeper: Keeper, progress: Progress) -> None:
    """One epoch: learn, look how good the average is, keep it, and say so."""
    started = time.monotonic()
    with progress.stage(0.85) as part:
        losses = train_one_epoch(run, epoch, part)
    evaluation = evaluate_average(run)
    checkpoint = checkpoint_of(
        run.average.module,
        run.job.train.class_names,
        {
            "epoch": epoch,
            "img_size": run.image_size,
            "map50": evaluation.scores.map50,
            "map50_95": evaluation.scores.map50_95,
        },
    )
    improved = keeper.keep(checkpoint, epoch, evaluation)
    run.record.epoch(epoch, figures(run, losses, evaluation))
    log.info(
        "epoch %d/%d  box %.4f  obj %.4f  cls %.4f  |  P %.3f  R %.3f  mAP50 %.3f  "
        "mAP50-95 %.3f%s  (%.1f s)",
        epoch + 1,
        run.job.settings.epochs,
        *losses,
        evaluation.scores.precision,
        evaluation.scores.recall,
        evaluation.scores.map50,
        evaluation.scores.map50_95,
        "  best" if improved else "",
        time.monotonic() - started,
    )


def train_one_epoch(run: Run, epoch: int, progress: Progress) -> list[float]:
    """One pass over the training set; mean box, objectness and class loss."""
    device, precision, steps = run.job.device, run.job.settings.precision, len(run.loader)
    run.network.train()
    run.loader.set_epoch(epoch)
    totals = torch.zeros(3, device=device)
    for step, batch in enumerate(run.loader):
        run.stepper.set(run.schedule.at(epoch * steps + step))
        with autocast(device, precision):
            maps = run.network(network_input(batch.images, device))
        losses = run.criterion(maps, batch.targets.to(device, non_blocking=True))
        if run.stepper.backward_and_step(losses.total):
            run.average.update(run.network)
        totals += torch.stack([losses.box, losses.obj, losses.cls])
        progress.update(step + 1, steps)
        if epoch == 0 and step == 0 and run.job.settings.plots:
            run.record.picture("train_batch.jpg", picture_of(batch, run.job.train.class_names))
    refuse_not_finite(run, epoch)
    return (totals / steps).tolist()


def refuse_not_finite(run: Run, epoch: int) -> None:
    """End a training whose losses are no longer numbers; what was kept stays kept."""
    faults = run.stepper.faults()
    if faults.losses:
        raise TaskError(
            Code.NOT_A_NUMBER,
            f"the loss was not a number in {faults.losses} step(s) by epoch {epoch + 1}: lower lr0 "
            "(or precision float32), or look for broken labels; the best weights so far are kept.",
        )


def evaluate_average(run: Run) -> Evaluation:
    """How good the averaged weights are on the validation split."""
    settings = run.job.settings
    predictor = Predictor(
        run.average.module,
        run.job.train.class_names,
        device=run.job.device,
        image_size=run.image_size,
        precision=settings.precision,
        thresholds=Thresholds(settings.conf_thres, settings.iou_thres, settings.max_det),
    )
    return evaluate(
        predictor,
        run.job.validation,
        run.evaluation_batches,
        criterion=run.criterion,
        report_confidence=settings.report_conf,
    )


def finish(run: Run, keeper: Keeper, progress: Progress) -> Saved:
    """Pictures and exports of the best weights; the model itself is safe already."""
    best = keeper.best
    assert best is not None
    names, settings = run.job.train.class_names, run.job.settings
    log.info("best epoch %d\n%s", best.epoch + 1, class_table(best.evaluation, names))
    checkpoint = load_checkpoint(best.files[0])
    detector = build_detector(checkpoint)
    if settings.plots:
        with progress.stage(0.5):
            draw_results(run, best, detector)
    if settings.onnx:
        target = best.files[0].with_suffix(".onnx")
        export_onnx(
            detector, target, img_size=run.image_size, opset=settings.opset, class_names=names
        )
        difference = verify_onnx(target, detector)
        log.info("%s agrees with the network within %.1e", target.name, difference)
        return keeper.add_to_best(target)
    return keeper.add_to_best()


def draw_results(run: Run, best: Saved, detector: Detector) -> None:
    """Curves, confusion and a sheet of validation images, for people to look at."""
    folder, names = run.record.folder, run.job.train.class_names
    draw_learning_curves(run.record.results_csv, folder / "results.png")
    draw_precision_recall(best.evaluation.classes, names, folder / "pr_curve.png")
    draw_confusion(best.evaluation.confusion.matrix, names, folder / "confusion_matrix.png")
    for name in ("results.png", "pr_curve.png", "confusion_matrix.png"):
        run.record.add_picture(folder / name)
    predictor = Predictor(
        detector,
        names,
        device=run.job.device,
        image_size=run.image_size,
        precision=run.job.settings.precision,
    )
    run.record.picture("validation.jpg", draw_predictions(predictor, run.job.validation))


def network_input(images: Tensor, device: torch.device) -> Tensor:
    """uint8 RGB [b, 3, h, w] to floats from 0 to 1 on the device, channels last."""
    moved = images.to(device, non_blocking=True)
    return moved.contiguous(memory_format=torch.channels_last).float().div_(255)


def figures(run: Run, losses: Sequence[float], evaluation: Evaluation) -> list[float]:
    """One line of results.csv, without the epoch."""
    scores = evaluation.scores
    rates = [float(group["lr"]) for group in run.stepper.optimizer.param_groups]
    return [
        *losses,
        scores.precision,
        scores.recall,
        scores.map50,
        scores.map50_95,
        *evaluation.losses,
        *rates,
    ]


def picture_of(batch: Batch, class_names: Sequence[str]) -> np.ndarray:
    """A training batch with its boxes."""
    return draw_batch(batch.images.numpy(), batch.targets.numpy(), class_names)


def main(arguments: Sequence[str] | None = None) -> None:
    """Train without YMIR: on a data.yaml with v7.0's flags, or on YMIR index files."""
    log_to_console()
    command = parse_train_command(sys.argv[1:] if arguments is None else arguments)
    for note in command.notes:
        log.warning("note: %s", note)
    device = device_of(command.device)
    (train_index, validation), reports = command.data.read(command.settings.max_bad_fraction)
    lines = [line for report in reports for line in report.lines()]
    log.info("%s\n%s", describe(device), "\n".join(lines))
    folder = command.run.make()
    command.write_options(folder)
    job = TrainingJob(
        settings=command.settings,
        train=train_index,
        validation=validation,
        device=device,
        folder=folder,
        stage_folder=lambda stage: command.stage_folder(folder, stage),
        on_saved=lambda saved: None,
        tensorboard=folder / "tensorboard",
        weights=command.weights,
    )
    best = train(job, Progress(lambda fraction: None))
    log.info("best weights: %s", best.files[0])


if __name__ == "__main__":
    sys.exit(run_command(main))
