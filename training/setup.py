"""The parts of a training, made from its settings and data and ready for the next step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import cast

import torch
from torch import nn
from torch.optim import Optimizer

from data.loaders import (
    EvaluationLoader,
    LoaderConfig,
    TrainingLoader,
    evaluation_loader,
    training_loader,
)
from models.detector import Detector
from models.loss import DetectionLoss
from reporting.callbacks import Callback
from settings.train import TrainSettings
from training.autoanchor import AnchorRules, fit_anchors
from training.autobatch import ON_A_CPU, automatic_batch_size
from training.build import (
    augmentation,
    batching,
    criterion,
    schedule,
    starting_network,
    synchronise,
)
from training.ema import ModelEMA
from training.freezing import freeze, frozen_layers
from training.job import TrainingJob
from training.multi_scale import MultiScale
from training.optimizer import OptimizerKind, OptimizerStep, build_optimizer
from training.resume import identity_of
from training.run_state import RunState, load_network, restore
from training.schedule import Schedule, scaled_weight_decay
from utils.device import keep_freed_memory
from utils.distributed import SINGLE_PROCESS, DistContext
from utils.errors import Code, TaskError
from utils.seeding import seed_everything


@dataclass
class Run:
    """The moving parts of a training."""

    job: TrainingJob
    """With the batch size that was chosen, where the settings leave it to the machine."""
    identity: dict[str, object]
    callbacks: Sequence[Callback]
    """None on ranks that write nothing."""
    network: Detector
    model: nn.Module
    """The network, or what makes its gradients those of all processes: call this."""
    frozen: tuple[int, ...]
    average: ModelEMA[Detector]
    criterion: DetectionLoss
    stepper: OptimizerStep
    schedule: Schedule
    loader: TrainingLoader
    evaluation_batches: EvaluationLoader
    """This process's share."""
    image_size: int
    multi_scale: MultiScale | None = None
    """Gives each batch a size of its own."""


def prepare(
    job: TrainingJob, state: RunState | None = None, callbacks: Sequence[Callback] = ()
) -> Run:
    """Build network, data and optimiser for the first step, or for the next one after `state`."""
    refuse_what_needs_one_process(job)
    identity = state.identity if state else identity_of(job)
    settings, device = job.settings, job.device
    if device.type == "cpu":
        keep_freed_memory()
    seed_everything(settings.seed)
    network, frozen = network_of(job)
    network = network.to(device).to(memory_format=torch.channels_last)
    stride = network.config.input_multiple
    image_size = max(-(-settings.img_size // stride) * stride, 2 * stride)
    if state:
        load_network(network, state)
    else:
        fit_anchors(network, job.train, image_size, AnchorRules.of(settings))
    job.processes.broadcast_module(network)
    loss = criterion(settings, network, image_size).to(device)
    job = with_batch_size(job, network, loss, image_size, state.batch_size if state else None)
    settings = job.settings
    loader = training_batches(job, image_size, stride)
    job.processes.assert_equal(
        len(loader.order),
        "the processes found different numbers of training images ({numbers} for each): all must "
        "read the same files, so look above for files that only some could read.",
    )
    stepper = OptimizerStep(optimizer_of(settings, network))
    run = Run(
        job=job,
        identity=identity,
        callbacks=callbacks,
        network=network,
        model=job.processes.ddp(network),
        frozen=frozen,
        average=ModelEMA(network),
        criterion=loss,
        stepper=stepper,
        schedule=schedule(settings, len(loader)),
        loader=loader,
        evaluation_batches=evaluation_batches(job, image_size, stride, job.processes),
        image_size=image_size,
        multi_scale=MultiScale(image_size, stride, settings.seed) if settings.multi_scale else None,
    )
    if state:
        restore(state, average=run.average, stepper=run.stepper)
    return run


def optimizer_of(settings: TrainSettings, network: Detector) -> Optimizer:
    """The rule of the weight update; the weight decay is that of the batch size that is used."""
    return build_optimizer(
        network,
        kind=cast("OptimizerKind", settings.optimizer),
        lr=settings.lr0,
        momentum=settings.momentum,
        weight_decay=scaled_weight_decay(
            settings.weight_decay, settings.batch_size, settings.nominal_batch_size
        ),
    )


def network_of(job: TrainingJob) -> tuple[Detector, tuple[int, ...]]:
    """The network to train, on the CPU, and its layers that stay as they are."""
    settings = job.settings
    network = starting_network(
        settings.model,
        job.weights,
        job.train.class_names,
        activation=settings.activation,
        anchors=settings.anchors,
    )
    frozen = frozen_layers(settings.freeze, len(network.model))
    freeze(network, frozen)
    synchronise(network, settings.sync_bn, processes=job.processes, device=job.device)
    return network, frozen


def training_batches(job: TrainingJob, image_size: int, stride: int) -> TrainingLoader:
    """The batches to learn from: of each batch this process's share."""
    settings, processes = job.settings, job.processes
    config = LoaderConfig(
        image_size,
        settings.batch_size // processes.world_size,
        stride=stride,
        workers=settings.workers,
        cache=settings.cache,
        cache_dir=settings.cache_dir,
        device=job.device,
    )
    loader, _ = training_loader(
        job.train,
        config,
        seed=settings.seed,
        augmentation=augmentation(settings),
        batching=batching(settings),
        processes=processes,
    )
    return loader


def evaluation_batches(
    job: TrainingJob, image_size: int, stride: int, processes: DistContext = SINGLE_PROCESS
) -> EvaluationLoader:
    """The batches to evaluate on: all, or one process's share."""
    settings = job.settings
    config = LoaderConfig(
        image_size,
        settings.batch_size if settings.batch_size > 0 else ON_A_CPU,
        stride=stride,
        workers=settings.workers,
        cache=settings.cache,
        device=job.device,
    )
    return evaluation_loader(job.validation, config, processes=processes)


def refuse_what_needs_one_process(job: TrainingJob) -> None:
    """As v7.0, several processes take neither an automatic batch size nor image weights."""
    settings, world = job.settings, job.processes.world_size
    if not job.processes.is_distributed:
        return
    if settings.batch_size < 1 or settings.batch_size % world:
        raise TaskError(
            Code.CONFIG,
            f"batch_size is {settings.batch_size}, but {world} processes train together and take "
            f"equal shares of a batch: set it to a multiple of {world}.",
        )
    if settings.image_weights:
        raise TaskError(
            Code.CONFIG,
            f"image_weights is for one process, and {world} train together: leave it out, or "
            "train on one GPU.",
        )


def with_batch_size(
    job: TrainingJob,
    network: Detector,
    loss: DetectionLoss,
    image_size: int,
    earlier: int | None,
) -> TrainingJob:
    """The job with a batch size, if the settings leave it to the machine.

    That is the `earlier` one when a training goes on, and never more than there are images.
    """
    settings = job.settings
    if settings.batch_size > 0:
        return job
    chosen = earlier or automatic_batch_size(
        network,
        loss,
        device=job.device,
        image_size=image_size,
        precision=settings.precision,
        states=1 if settings.optimizer == "sgd" else 2,
    )
    return replace(job, settings=replace(settings, batch_size=min(chosen, len(job.train))))
