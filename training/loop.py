"""Trains a detector: the loop, and what is kept of it.

    python train.py --data data.yaml --cfg yolov5n --img 320 --batch-size 16 --epochs 100
    python train.py --train task/in/train-index.tsv --val task/in/val-index.tsv \
        --class-names WBC RBC Platelets --output runs/cells model=yolov5n img_size=320 epochs=100
    torchrun --nproc-per-node 2 train.py ...    # the same on two GPUs
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from data.datasets import QUAD_LOSS_FACTOR
from data.sources import check_data_available, sample_paths
from evaluation.evaluate import evaluate, final_report, no_evaluation
from evaluation.evaluator import Evaluation, EvaluationConfig
from evaluation.tables import class_table
from exporting.after_training import export_beside
from inference.predictor import Predictor
from models.checkpoint import (
    CheckpointMetadata,
    build_detector,
    checkpoint_of,
    load_checkpoint,
)
from models.detector import Detector
from ops.nms import NmsConfig
from reporting.callbacks import Callback, EpochResult
from reporting.results_csv import CsvLogger
from reporting.tensorboard import TensorBoardLogger
from reporting.training_report import ReportData, TrainingReport
from training.checkpoints import ModelCheckpoint, Saved
from training.early_stopping import stop_reason
from training.freezing import training_mode
from training.job import TrainingJob
from training.resume import best_epoch, find_state, is_over
from training.run_state import RunState, split_into_tiles, write_run_state
from training.setup import Run, evaluation_batches, prepare
from utils.device import autocast, compute_dtype, describe
from utils.errors import Code, TaskError
from utils.logs import PROGRESS
from utils.progress import Progress

log = logging.getLogger(__name__)


def train(job: TrainingJob, progress: Progress) -> Saved:
    """Train for the epochs asked; return the best weights, already saved and reported.

    Evaluates the averaged weights after every epoch. `best` is rewritten when the fitness
    (0.1 mAP50 + 0.9 mAP50-95) rises, `last` after every epoch. A training that was stopped goes
    on after its last epoch as if nothing had been, one that was complete reports its results.
    """
    settings = job.settings
    job = job.of_one_class()
    keeper = ModelCheckpoint(
        job.stage_folder, job.on_saved, period=settings.save_period, hold=settings.nosave
    )
    state = common_state(job)
    rows = state.rows if state else []
    # Points of epochs that are trained once more are hidden.
    with TensorBoardLogger(job.tensorboard, first_step=len(rows)) as board:
        callbacks: list[Callback] = [CsvLogger(job.folder, rows), board]
        if state:
            keeper.restore(state.stages)
        if settings.plots:
            callbacks.append(TrainingReport(job.folder, report_data(job, keeper), board))
        with progress.stage(0.93) as part:
            try:
                state = learn(job, callbacks, keeper, state, part)
            finally:
                keeper.write_held()
        with progress.stage(0.07) as part:
            best = finish(job, callbacks, keeper, part)
    if not settings.nosave:
        stages = list(keeper.stages.values())
        write_run_state(job.state_file, replace(state, stages=stages, parts=None))
    return best


def report_data(job: TrainingJob, keeper: ModelCheckpoint) -> ReportData:
    """Return what the report knows before the first epoch of this run."""
    best, last = keeper.stages.get("best"), keeper.stages.get("last")
    return ReportData(
        settings=job.settings,
        train=job.train,
        validation=job.validation,
        device=describe(job.device),
        weights=job.weights,
        reports=job.reports,
        best=(best.epoch, best.evaluation) if best else None,
        last=(last.epoch, last.evaluation) if last else None,
    )


def take_part(job: TrainingJob, progress: Progress) -> Saved | None:
    """`train`, or what the other processes of a training do, who save nothing."""
    if job.processes.is_main:
        return train(job, progress)
    follow(job)
    return None


def follow(job: TrainingJob) -> None:
    """The same epochs in a process that learns its share, and hears when it is over."""
    job = job.of_one_class()
    epochs, patience = job.settings.epochs, job.settings.patience
    state = common_state(job)
    if state and is_over(state, epochs, patience):
        return
    run = prepare(job, state)
    for epoch in range(state.epoch + 1 if state else 0, epochs):
        silent = Progress(lambda fraction: None)
        train_one_epoch(run, epoch, silent)
        if is_evaluated(job, epoch):
            evaluate_average(run, silent)
        if job.processes.broadcast(0):
            return


def common_state(job: TrainingJob) -> RunState | None:
    """The state that all processes go on from: what the first one finds."""
    processes = job.processes
    state = find_state(job) if processes.is_main else None
    epoch = processes.broadcast(state.epoch if state else -1)
    if epoch >= 0 and not processes.is_main:
        state = find_state(job)
    processes.assert_equal(
        state.epoch if state else -1,
        "the processes find different stages of this training (epochs {numbers}): the folder of "
        "its results must be the same one on every machine.",
    )
    return state


def learn(
    job: TrainingJob,
    callbacks: Sequence[Callback],
    keeper: ModelCheckpoint,
    state: RunState | None,
    progress: Progress,
) -> RunState:
    """Epoch after epoch until all are done, or until patience is at its end."""
    epochs, patience = job.settings.epochs, job.settings.patience
    if state and is_over(state, epochs, patience):
        return state
    with progress.stage(0.05):
        run = prepare(job, state, callbacks)
        for callback in callbacks:
            callback.on_train_start(run.network, run.image_size)
        if state:
            last = keeper.stages["last"].evaluation.classes
            run.loader.update_class_weights(last.average_precision(run.network.nc))
    first = state.epoch + 1 if state else 0
    with progress.stage(0.95) as part:
        with part.stage(first / epochs):
            pass  # done by an earlier run
        for epoch in range(first, epochs):
            with part.stage(1 / epochs) as share:
                rows = state.rows if state else []
                state = train_and_evaluate(run, epoch, keeper, rows, share)
            if job.processes.broadcast(is_over(state, epochs, patience)):
                break
    assert state is not None
    if state.epoch + 1 < epochs:
        log.info("%s", stop_reason(state.epoch, epochs, best_epoch(state), patience))
    return state


def train_and_evaluate(
    run: Run,
    epoch: int,
    keeper: ModelCheckpoint,
    rows: Sequence[Sequence[float]],
    progress: Progress,
) -> RunState:
    """Train one epoch, evaluate and save the averaged weights; `rows` are those of results.csv."""
    started, settings = time.monotonic(), run.job.settings
    with progress.stage(0.85) as part:
        losses = train_one_epoch(run, epoch, part)
    evaluated = is_evaluated(run.job, epoch)
    with progress.stage(0.14) as part:
        evaluation = evaluate_average(run, part) if evaluated else no_evaluation(run.network.nc)
    if evaluated:
        classes = evaluation.classes
        run.loader.update_class_weights(classes.average_precision(run.network.nc))
    refuse_lost_images(run)
    checkpoint = checkpoint_of(
        run.average.module,
        run.job.train.class_names,
        CheckpointMetadata(
            epoch=epoch,
            img_size=run.image_size,
            map50=evaluation.scores.map50,
            map50_95=evaluation.scores.map50_95,
            labelled_images=len(run.job.train),
            labelled_objects=tuple(run.job.train.counts().tolist()),
        ),
    )
    improved = keeper.keep(checkpoint, epoch, evaluation, evaluated=evaluated)
    result = EpochResult(epoch, figures(run, losses, evaluation), evaluation, improved)
    for callback in run.callbacks:
        callback.on_epoch_end(result)
    state = keep_state(run, epoch, keeper, [*map(list, rows), [epoch, *result.values]])
    log.info(
        "epoch %d/%d  box %.4f  obj %.4f  cls %.4f  |  %s%s  (%.1f s)",
        epoch + 1,
        settings.epochs,
        *losses,
        evaluation.scores if evaluated else "not evaluated",
        "  best" if improved and evaluated else "",
        time.monotonic() - started,
        extra=PROGRESS,
    )
    return state


def keep_state(run: Run, epoch: int, keeper: ModelCheckpoint, rows: list[list[float]]) -> RunState:
    """Where the training stands now, on disk unless nothing is to be saved before its end."""
    state = RunState(
        epoch=epoch,
        identity=run.identity,
        batch_size=run.job.settings.batch_size,
        rows=rows,
        stages=list(keeper.stages.values()),
        parts=split_into_tiles(run.network, run.average, run.stepper),
    )
    if not run.job.settings.nosave:
        write_run_state(run.job.state_file, state)
    return state


def train_one_epoch(run: Run, epoch: int, progress: Progress) -> list[float]:
    """One pass over the training set; mean box, objectness and class loss."""
    device, precision, steps = run.job.device, run.job.settings.precision, len(run.loader)
    processes = run.job.processes
    share = processes.normaliser if processes.is_distributed else None
    training_mode(run.network, run.frozen)
    run.loader.set_epoch(epoch)
    totals = torch.zeros(3, device=device)
    # What is yet to be resized stays exact.
    kind = compute_dtype(device, precision) if run.multi_scale is None else torch.float32
    for step, batch in enumerate(run.loader):
        run.stepper.set(run.schedule.at(epoch * steps + step))
        images = network_input(batch.images, device, kind)
        if run.multi_scale is not None:
            images = run.multi_scale.resize(images, epoch, step)
        with autocast(device, precision):
            maps = run.model(images)
        losses = run.criterion(maps, batch.targets.to(device, non_blocking=True), share)
        total = losses.total * QUAD_LOSS_FACTOR if run.job.settings.quad else losses.total
        # What meets in the gradients is the mean over the processes, what counts is the sum.
        if run.stepper.backward_and_step(total * processes.world_size if share else total):
            run.average.update(run.network)
        totals += torch.stack([losses.box, losses.obj, losses.cls])
        progress.update(step + 1, steps)
        for callback in run.callbacks:
            callback.on_train_batch_end(epoch, step, batch.images, batch.targets)
    refuse_not_finite(run, epoch)
    return (processes.mean(totals) / steps).tolist()


def refuse_not_finite(run: Run, epoch: int) -> None:
    """End a training whose losses are no longer numbers; what was kept stays kept."""
    faults = run.stepper.faults()
    if faults.losses:
        raise TaskError(
            Code.NOT_A_NUMBER,
            f"the loss was not a number in {faults.losses} step(s) by epoch {epoch + 1}: lower lr0 "
            "(or precision float32), or look for broken labels; the best weights so far are kept.",
        )


def refuse_lost_images(run: Run) -> None:
    """End a training whose images are gone, unless it reads no file any more."""
    if not run.loader.cached:
        check_data_available(sample_paths(run.job.train.paths), what="training images")
    if not run.evaluation_batches.cached:
        check_data_available(sample_paths(run.job.validation.paths), what="validation images")


def is_evaluated(job: TrainingJob, epoch: int) -> bool:
    """Whether the weights are looked at after an epoch."""
    return not job.settings.noval or epoch + 1 == job.settings.epochs


def evaluate_average(run: Run, progress: Progress) -> Evaluation:
    """How good the averaged weights are on the validation split, told to the first process.

    Those of the first process: without `sync_bn` each has batch statistics of its own.
    """
    run.job.processes.broadcast_module(run.average.module)
    batches = run.evaluation_batches
    return evaluate(
        evaluating(run.job, run.average.module, run.image_size),
        run.job.validation,
        progress.follow(batches, len(batches)),
        EvaluationConfig(run.job.settings.report_conf),
        criterion=run.criterion,
        processes=run.job.processes,
    )


def evaluating(job: TrainingJob, network: Detector, image_size: int) -> Predictor:
    """A predictor with the thresholds of evaluation."""
    settings = job.settings
    return Predictor(
        network,
        job.train.class_names,
        device=job.device,
        image_size=image_size,
        precision=settings.precision,
        thresholds=NmsConfig(settings.conf_thres, settings.iou_thres, settings.max_det),
    )


def finish(
    job: TrainingJob, callbacks: Sequence[Callback], keeper: ModelCheckpoint, progress: Progress
) -> Saved:
    """Pictures and exports of the best weights; the model itself is safe already."""
    best = keeper.best
    assert best is not None
    names, settings = job.train.class_names, job.settings
    log.info("best epoch %d\n%s", best.epoch + 1, class_table(best.evaluation, names))
    check_data_available(sample_paths(job.validation.paths), what="validation images")
    checkpoint = load_checkpoint(best.files[0])
    detector = build_detector(checkpoint)
    image_size = checkpoint.metadata.img_size
    assert image_size is not None
    batches = evaluation_batches(job, image_size, detector.config.input_multiple)
    with progress.stage(0.4) as part:
        evaluation = final_report(
            evaluating(job, detector, image_size),
            job.validation,
            part.follow(batches, len(batches)),
            job.folder,
            report_confidence=settings.report_conf,
        )
    with progress.stage(0.1):
        for callback in callbacks:
            callback.on_train_end(best.epoch, evaluation, best.files)
    exported = export_beside(
        best.files[0], detector, settings=settings, class_names=names, image_size=image_size
    )
    for callback in callbacks:
        callback.on_export_end(exported)
    return keeper.add_to_best(*exported)


def network_input(
    images: Tensor, device: torch.device, kind: torch.dtype = torch.float32
) -> Tensor:
    """uint8 RGB [b, 3, h, w] to numbers of `kind` from 0 to 1 on the device, channels last."""
    moved = images.to(device, non_blocking=True)
    # Bytes are turned last: a CPU moves them no faster than wider numbers.
    return moved.to(kind).div_(255).contiguous(memory_format=torch.channels_last)


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
