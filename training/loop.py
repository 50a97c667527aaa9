"""The training loop: epochs of steps, evaluation of the EMA, checkpoints and callbacks."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, replace

import torch
from torch import Tensor
from tqdm import tqdm

from data.datasets import Batch
from data.sources import check_data_available, sample_paths
from evaluation.evaluate import evaluate, final_report, no_evaluation
from evaluation.evaluator import Evaluation, EvaluationConfig
from evaluation.tables import class_table
from exporting.export import export_after_training
from inference.predictor import Predictor, PredictorConfig
from models.checkpoint import (
    CheckpointMetadata,
    build_detector,
    checkpoint_of,
    load_checkpoint,
)
from models.detector import Detector
from ops.nms import NmsConfig
from reporting.callbacks import Callback, EpochResult
from reporting.loggers import LOGGERS
from reporting.results_csv import CsvLogger
from reporting.tensorboard import TensorBoardLogger
from reporting.training_page import ReportData
from reporting.training_report import TrainingReport
from training.build import set_train_mode
from training.checkpoints import ModelCheckpoint, SavedCheckpoint
from training.job import TrainingJob
from training.recovery import NotFiniteError, kept, overflowed, step_back
from training.resume import ResumeState, find_common_state, snapshot, write_state
from training.setup import TrainState, evaluation_batches, prepare
from training.step import share_pending
from utils.device import describe, inference_precision, tried_kernels
from utils.errors import best_effort
from utils.logs import PROGRESS
from utils.progress import Progress, progress_bar

log = logging.getLogger(__name__)

STEPS_SHOWN = 10
"""Steps between two updates of the losses at a terminal."""


def train(job: TrainingJob, progress: Progress) -> SavedCheckpoint | None:
    """Train, evaluate and export; return the best checkpoint on rank 0, None on the others.

    Evaluates the EMA after every epoch. `best` is rewritten when the fitness (0.1 mAP50 +
    0.9 mAP50-95) rises, `last` after every epoch. A stopped training is resumed after its last
    epoch with the same results as if it had run through; a complete one reports its results.
    """
    job = job.of_one_class()
    resumed = find_common_state(job)
    if not job.processes.is_main:
        train_epochs(job, resumed, None, (), progress)
        return None
    settings = job.settings
    checkpoints = ModelCheckpoint(
        job.stage_folder, job.on_saved, period=settings.save_period, deferred=settings.nosave
    )
    rows = resumed.rows if resumed else []
    # Points of epochs that are trained once more are hidden.
    with (
        TensorBoardLogger(job.tensorboard, first_step=len(rows)) as board,
        ExitStack() as stack,
    ):
        callbacks: list[Callback] = [CsvLogger(job.folder, rows), board]
        for name in settings.loggers:
            logger = LOGGERS[name](job.folder, asdict(settings))
            callbacks.append(stack.enter_context(logger))
        if resumed:
            checkpoints.restore(resumed.stages)
        if settings.plots:
            callbacks.append(TrainingReport(job.folder, report_data(job, checkpoints), board))
        with progress.stage(0.93) as part:
            try:
                state = train_epochs(job, resumed, checkpoints, callbacks, part)
            finally:
                checkpoints.write_deferred()
        with progress.stage(0.07) as part:
            best = finish(job, callbacks, checkpoints, part)
    if state and not settings.nosave:
        stages = list(checkpoints.stages.values())
        write_state(job.state_file, replace(state, stages=stages, parts=None))
    return best


def report_data(job: TrainingJob, checkpoints: ModelCheckpoint) -> ReportData:
    """Return what the report knows before the first epoch of this run."""
    best, last = checkpoints.stages.get("best"), checkpoints.stages.get("last")
    before = None
    if job.weights and job.weights != job.state_file.with_suffix(".pt"):  # no resumed run's own
        with best_effort("the figures of the weights", log):
            checkpoint = load_checkpoint(job.weights)
            before = checkpoint.metadata, checkpoint.class_names
    return ReportData(
        settings=job.settings,
        train=job.train,
        validation=job.validation,
        device=describe(job.device),
        weights=job.weights,
        reports=job.reports,
        best=(best.epoch, best.evaluation) if best else None,
        last=(last.epoch, last.evaluation) if last else None,
        names=job.names,
        command=job.command,
        before=before,
    )


def train_epochs(
    job: TrainingJob,
    resumed: ResumeState | None,
    checkpoints: ModelCheckpoint | None,
    callbacks: Sequence[Callback],
    progress: Progress,
) -> ResumeState | None:
    """Train until all epochs are done or early stopping applies; return the last saved state.

    Every rank runs this; ranks above 0 have neither `checkpoints` nor `callbacks`, and their state
    is the one they resumed from.
    """
    if resumed and resumed.is_complete(job.settings):
        return resumed
    with progress.stage(0.05):
        state = prepare(job, resumed, callbacks)
        for callback in callbacks:
            callback.on_train_start(state.network, state.image_size)
        if resumed:
            (last,) = (saved for saved in resumed.stages if saved.stage == "last")
            classes = last.evaluation.classes
            state.loader.update_class_weights(classes.average_precision(state.network.nc))
    epochs, saved, first = job.settings.epochs, resumed, resumed.epoch + 1 if resumed else 0
    good = kept(snapshot(state.network, state.ema, state.optimizer_step))
    with progress.stage(0.95) as part:
        with part.stage(first / epochs):
            pass  # trained by an earlier run
        for epoch in progress_bar(range(first, epochs), "training", unit="epoch"):
            with part.stage(1 / epochs) as share:
                started = time.monotonic()
                try:
                    losses, evaluation = train_and_evaluate(state, epoch, share.again())
                except NotFiniteError as error:
                    state = step_back(state, error, good)
                    losses, evaluation = train_and_evaluate(state, epoch, share.again())
                good = kept(snapshot(state.network, state.ema, state.optimizer_step))
                if checkpoints:
                    rows = saved.rows if saved else []
                    saved = save_epoch(state, epoch, losses, evaluation, checkpoints, rows)
                    seconds = time.monotonic() - started
                    log_epoch(job, losses, evaluation, saved, seconds)
            if job.processes.broadcast(saved is not None and saved.is_complete(job.settings)):
                break
    if checkpoints and saved and saved.epoch + 1 < epochs:
        log.info(
            "early stopping after epoch %d: no improvement for %d epochs (best epoch %d, "
            "patience %d)",
            *(saved.epoch + 1, saved.epoch - saved.best_epoch),
            *(saved.best_epoch + 1, job.settings.patience),
        )
    return saved


def train_and_evaluate(
    state: TrainState, epoch: int, progress: Progress
) -> tuple[list[float], Evaluation]:
    """Train one epoch and evaluate the EMA; return mean losses and evaluation."""
    settings = state.job.settings
    one_shape = not (settings.multi_scale or settings.rect)
    with progress.stage(0.85) as part, tried_kernels(state.job.device, fixed_shapes=one_shape):
        losses = train_one_epoch(state, epoch, part)
    if not state.job.is_evaluated(epoch):
        return losses, no_evaluation(state.network.nc)
    with progress.stage(0.14) as part:
        evaluation = evaluate_ema(state, part)
    state.loader.update_class_weights(evaluation.classes.average_precision(state.network.nc))
    return losses, evaluation


def save_epoch(
    state: TrainState,
    epoch: int,
    losses: Sequence[float],
    evaluation: Evaluation,
    checkpoints: ModelCheckpoint,
    rows: Sequence[list[float]],
) -> ResumeState:
    """Save checkpoints and run the callbacks of an epoch; return the state to resume from.

    `rows` are those of results.csv so far. The state is on disk unless `nosave` is set. Raises
    TaskError(DATASET) if the images are gone.
    """
    job, scores = state.job, evaluation.scores
    check_images(state)
    checkpoint = checkpoint_of(
        state.ema.module,
        job.train.class_names,
        CheckpointMetadata(
            epoch=epoch,
            img_size=state.image_size,
            map50=scores.map50,
            map50_95=scores.map50_95,
            labelled_images=len(job.train),
            labelled_objects=tuple(job.train.counts().tolist()),
        ),
    )
    evaluated = job.is_evaluated(epoch)
    best = checkpoints.save(checkpoint, epoch, evaluation, evaluated=evaluated)
    figures = (scores.precision, scores.recall, scores.map50, scores.map50_95)
    values = [*losses, *figures, *evaluation.losses, *state.optimizer_step.rates]
    result = EpochResult(epoch, values, evaluation, best)
    for callback in state.callbacks:
        callback.on_epoch_end(result)
    saved = ResumeState(
        epoch=epoch,
        identity=state.identity,
        batch_size=job.settings.batch_size,
        rows=[*rows, [epoch, *result.values]],
        stages=list(checkpoints.stages.values()),
        parts=snapshot(state.network, state.ema, state.optimizer_step),
        slowed=state.schedule.slowed,
    )
    if not job.settings.nosave:
        write_state(job.state_file, saved)
    return saved


def log_epoch(
    job: TrainingJob,
    losses: Sequence[float],
    evaluation: Evaluation,
    saved: ResumeState,
    seconds: float,
) -> None:
    """Log an epoch's losses and scores in one line."""
    evaluated = job.is_evaluated(saved.epoch)
    log.info(
        "epoch %d/%d  box %.4f  obj %.4f  cls %.4f  |  %s%s  (%.1f s)",
        *(saved.epoch + 1, job.settings.epochs, *losses),
        evaluation.scores if evaluated else "not evaluated",
        "  best" if evaluated and saved.best_epoch == saved.epoch else "",
        seconds,
        extra=PROGRESS,
    )


def train_one_epoch(state: TrainState, epoch: int, progress: Progress) -> list[float]:
    """Train for one pass over the training set; return mean box, objectness and class loss.

    Raises NotFiniteError, on all ranks, if a loss is not finite, and TaskError(NOT_A_NUMBER) if
    gradients overflow in float16 whatever they are scaled by.
    """
    job, settings, processes = state.job, state.job.settings, state.job.processes
    steps, step_of = len(state.loader), state.optimizer_step
    counted, effective = step_of.steps, state.ema.updates
    set_train_mode(state.network)
    state.loader.set_epoch(epoch)
    totals = torch.zeros(3, device=job.device)
    bar = progress_bar(state.loader, f"epoch {epoch + 1}/{settings.epochs}", unit="batch")
    for step, batch in enumerate(bar):
        step_of.set(state.schedule.at(epoch * steps + step))
        size = (batch.images.shape[2], batch.images.shape[3])
        if state.multi_scale:
            size = state.multi_scale.shape(size, epoch, step)
        totals += state.step(batch.images, batch.targets, size)
        progress.update(step + 1, steps)
        show_losses(bar, totals, step, len(batch.images))
        for callback in state.callbacks:
            callback.on_train_batch_end(epoch, step, batch.images, batch.targets)
    share_pending(step_of, processes)
    non_finite, skipped = processes.all_reduce(step_of.non_finite).tolist()
    if non_finite:
        raise NotFiniteError(non_finite, epoch)
    if step_of.scale is not None:
        # The host has counted steps without waiting for what became of them.
        state.ema.updates = step_of.steps - skipped // processes.world_size
        in_vain = step_of.steps > counted and state.ema.updates == effective
        if in_vain and step_of.scale < 1:
            raise overflowed(epoch)
    return (processes.mean(totals) / steps).tolist()


def show_losses(bar: tqdm[Batch], totals: Tensor, step: int, images: int) -> None:
    """Show mean losses, images per second and GPU memory on a bar, every few steps.

    Reading the losses waits for the device: not done for a bar that is hidden.
    """
    if bar.disable or (step + 1) % STEPS_SHOWN:
        return
    box, obj, cls = (totals / (step + 1)).tolist()
    text = f"box {box:.4f}, obj {obj:.4f}, cls {cls:.4f}"
    text += f", {(step + 1) * images / bar.format_dict['elapsed']:.0f} images/s"
    if totals.is_cuda:
        text += f", {torch.cuda.memory_reserved(totals.device) / 2**30:.1f} GiB"
    bar.set_postfix_str(text, refresh=False)


def check_images(state: TrainState) -> None:
    """Raise TaskError(DATASET) if the images are gone, unless all are in memory."""
    if not state.loader.cached:
        check_data_available(sample_paths(state.job.train.paths), what="training images")
    if not state.evaluation_batches.cached:
        check_data_available(sample_paths(state.job.validation.paths), what="validation images")


def evaluate_ema(state: TrainState, progress: Progress) -> Evaluation:
    """Evaluate the EMA of rank 0 on the validation split; rank 0 returns the figures of all ranks.

    Without `sync_bn` the batch statistics differ between ranks.
    """
    state.job.processes.broadcast_module(state.ema.module)
    batches = state.evaluation_batches
    return evaluate(
        build_predictor(state.job, state.ema.module, state.image_size),
        state.job.validation,
        progress.follow(progress_bar(batches, "evaluation", unit="batch"), len(batches)),
        EvaluationConfig(state.job.settings.report_conf),
        criterion=state.criterion,
        processes=state.job.processes,
    )


def build_predictor(job: TrainingJob, network: Detector, image_size: int) -> Predictor:
    """Return a predictor with the thresholds of evaluation."""
    settings = job.settings
    config = PredictorConfig(
        image_size=image_size,
        batch_size=settings.batch_size,
        nms=NmsConfig(settings.conf_thres, settings.iou_thres, settings.max_det),
        precision=inference_precision(job.device, settings.precision, evaluates=True),
    )
    return Predictor.build(network, job.train.class_names, device=job.device, config=config)


def finish(
    job: TrainingJob,
    callbacks: Sequence[Callback],
    checkpoints: ModelCheckpoint,
    progress: Progress,
) -> SavedCheckpoint:
    """Evaluate the best checkpoint in full, report and export it; its file is complete already."""
    best = checkpoints.best
    assert best is not None
    names, settings = job.train.class_names, job.settings
    table = class_table(best.evaluation, names, language=settings.language)
    log.info("best epoch %d\n%s", best.epoch + 1, table)
    check_data_available(sample_paths(job.validation.paths), what="validation images")
    checkpoint = load_checkpoint(best.files[0])
    detector = build_detector(checkpoint)
    image_size = checkpoint.metadata.img_size
    assert image_size is not None
    batches = evaluation_batches(job, image_size, detector.config.input_multiple)
    with progress.stage(0.4) as part:
        evaluation = final_report(
            build_predictor(job, detector, image_size),
            job.validation,
            part.follow(progress_bar(batches, "evaluation", unit="batch"), len(batches)),
            job.folder,
            report_confidence=settings.report_conf,
            language=settings.language,
        )
    with progress.stage(0.1):
        for callback in callbacks:
            callback.on_train_end(best.epoch, evaluation, best.files)
    exported = export_after_training(
        best.files[0], detector, settings=settings, class_names=names, image_size=image_size
    )
    for callback in callbacks:
        callback.on_export_end(exported)
    return checkpoints.add_to_best(*exported)
