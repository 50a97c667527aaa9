"""Set up a training: build its parts from settings and data, ready for the next step."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import nn

from data.datasets import QUAD_LOSS_FACTOR
from data.image_cache import ImageCache
from data.loaders import (
    EvaluationLoader,
    LoaderConfig,
    TrainingLoader,
    evaluation_loader,
    training_images,
    training_loader,
)
from models.detector import Detector
from models.float16 import usable_precision
from models.loss import DetectionLoss
from reporting.callbacks import Callback
from settings.overridden import without_effect
from settings.train import TrainSettings
from training.autoanchor import fit_anchors
from training.autobatch import CPU_BATCH_SIZE, automatic_batch_size
from training.build import (
    build_augmentation,
    build_batching,
    build_criterion,
    build_network,
    freeze,
    set_batch_norm_momentum,
)
from training.compiling import plan, prepared_step
from training.ema import ModelEMA
from training.job import TrainingJob
from training.multi_scale import MultiScale
from training.optimizer import OptimizerStep, build_optimizer
from training.recording import RecordedStep
from training.resume import ResumeState, identity_of, load_network, restore
from training.schedule import Schedule, batches_per_step
from training.step import BatchGradients, TrainingStep
from utils.device import allow_tf32, compute_dtype, keep_freed_memory
from utils.distributed import SINGLE_PROCESS, DistContext
from utils.errors import Code, TaskError
from utils.memory import Pieces
from utils.seeding import seed_everything

log = logging.getLogger(__name__)

FEW_STEPS = 500
"""Fewer optimiser steps let the set `small` be named (docs/accuracy.md)."""


@dataclass(frozen=True)
class TrainState:
    """The moving parts of a training."""

    job: TrainingJob
    """With the chosen batch size if the settings leave it to AutoBatch."""
    identity: dict[str, object]
    callbacks: Sequence[Callback]
    """Empty on ranks above 0."""
    network: Detector
    ema: ModelEMA[Detector]
    criterion: DetectionLoss
    optimizer_step: OptimizerStep
    step: TrainingStep | RecordedStep
    schedule: Schedule
    loader: TrainingLoader
    evaluation_batches: EvaluationLoader
    """This rank's share."""
    image_size: int
    multi_scale: MultiScale | None


def build_schedule(settings: TrainSettings, batches_per_epoch: int, slowed: float) -> Schedule:
    """Return the schedule; log what is unusual about a short training."""
    schedule = Schedule(settings, batches_per_epoch, slowed)
    if schedule.warmup_iterations != round(settings.warmup_epochs * batches_per_epoch):
        log.info(
            "warm-up: %d iterations instead of %g epochs (100 at least, half of the run at most)",
            *(schedule.warmup_iterations, settings.warmup_epochs),
        )
    accumulate = batches_per_step(settings)
    steps = settings.epochs * batches_per_epoch // accumulate
    if accumulate > 1 and steps < FEW_STEPS:
        log.info(
            "%d optimiser steps of %d batches each are few: hyp: small takes one for every batch "
            "(docs/accuracy.md)",
            *(steps, accumulate),
        )
    return schedule


def prepare(
    job: TrainingJob, resumed: ResumeState | None = None, callbacks: Sequence[Callback] = ()
) -> TrainState:
    """Build network, data and optimiser for the first step, or for the next one of `resumed`."""
    check_distributed(job)
    if augmentation_device(job) is None and job.settings.cache == "gpu":
        log.warning("cache gpu is cache ram here: the training is not on a GPU")
    identity = resumed.identity if resumed else identity_of(job)
    settings, device, processes = job.settings, job.device, job.processes
    if device.type == "cpu":
        keep_freed_memory()
    allow_tf32(settings.tf32)
    seed_everything(settings.seed)
    network, head_kept = network_of(job)
    network = network.to(device).to(memory_format=torch.channels_last)
    stride = network.config.input_multiple
    for note in without_effect(settings, network.nc):
        log.warning("%s", note)
    image_size = fitting_size(settings.img_size, stride)
    if resumed:
        assert resumed.parts is not None
        load_network(network, resumed.parts)
    else:
        fit_anchors(network, job.train, image_size, settings, head_kept=head_kept)
    processes.broadcast_module(network)
    settings = replace(settings, precision=common_precision(network, settings.precision, processes))
    job = replace(job, settings=settings)
    criterion = build_criterion(settings, network, image_size).to(device)
    images = None
    if settings.batch_size < 1:
        # First, so that AutoBatch measures the memory that they leave.
        images = training_images(job.train, loader_config(job, image_size, stride, 1))
        batch_size = (
            resumed.batch_size
            if resumed
            else automatic_batch_size(network, criterion, settings, device, image_size)
        )
        settings = replace(settings, batch_size=min(batch_size, len(job.train)))
        job = replace(job, settings=settings)
    loader = training_batches(job, image_size, stride, images)
    schedule = build_schedule(settings, len(loader), slowed=resumed.slowed if resumed else 1.0)
    optimizer_step = OptimizerStep(
        build_optimizer(network, settings),
        scaled=compute_dtype(device, settings.precision) == torch.float16,
    )
    ema = ModelEMA(network)
    gradients = batch_gradients(job, network, criterion, optimizer_step)
    left = (settings.epochs - (resumed.epoch + 1 if resumed else 0)) * len(loader)
    chosen = plan(settings, device, processes, left)
    log.info("training step: %s", chosen)
    state = TrainState(
        job=job,
        identity=identity,
        callbacks=callbacks,
        network=network,
        ema=ema,
        criterion=criterion,
        optimizer_step=optimizer_step,
        step=prepared_step(TrainingStep(gradients, network, ema, processes), chosen),
        schedule=schedule,
        loader=loader,
        evaluation_batches=evaluation_batches(job, image_size, stride, processes),
        image_size=image_size,
        multi_scale=MultiScale(image_size, stride, settings.seed) if settings.multi_scale else None,
    )
    if resumed:
        assert resumed.parts is not None
        restore(resumed.parts, ema=ema, optimizer_step=optimizer_step)
    return state


def fitting_size(asked: int, stride: int) -> int:
    """Return the image size that a network of this stride takes for the one that was asked for."""
    size = max(-(-asked // stride) * stride, 2 * stride)
    if size != asked:
        log.warning(
            "img_size %d becomes %d: the network takes multiples of %d pixels, two at least",
            *(asked, size, stride),
        )
    return size


def batch_gradients(
    job: TrainingJob, network: Detector, criterion: DetectionLoss, optimizer_step: OptimizerStep
) -> BatchGradients:
    """Return the forward and backward pass of a batch as a job wants it."""
    settings, processes = job.settings, job.processes
    strides = [int(stride) for stride in network.config.strides]
    return BatchGradients(
        model=network,
        criterion=criterion,
        match_counts=lambda targets, size: criterion.match_counts(
            targets, [(size[0] // stride, size[1] // stride) for stride in strides]
        ),
        optimizer_step=optimizer_step,
        device=job.device,
        precision=settings.precision,
        factor=QUAD_LOSS_FACTOR if settings.quad else 1,
        share=processes.normaliser if processes.is_distributed else None,
        padded=job.device.type != "cpu",  # on a CPU nothing waits: fewer rows are faster
        pieces=None if settings.sync_bn and processes.is_distributed else Pieces(),
    )


def check_distributed(job: TrainingJob) -> None:
    """Raise TaskError(CONFIG) for settings that several ranks do not take.

    As in v7.0 these are an automatic batch size and image weights. torch's SyncBatchNorm computes
    on GPUs only.
    """
    settings, world_size = job.settings, job.processes.world_size
    if not job.processes.is_distributed:
        return
    if settings.batch_size < 1 or settings.batch_size % world_size:
        raise TaskError(
            Code.CONFIG,
            f"batch_size is {settings.batch_size}, but {world_size} processes train together and "
            f"take equal shares of a batch: set it to a multiple of {world_size}.",
        )
    if settings.image_weights:
        raise TaskError(
            Code.CONFIG,
            f"image_weights is for one process, and {world_size} train together: leave it out, "
            "or train on one GPU.",
        )
    if settings.sync_bn and job.device.type != "cuda":
        raise TaskError(
            Code.CONFIG,
            "sync_bn needs GPUs: several processes on the CPU cannot share batch statistics; "
            "leave sync_bn out.",
        )


def common_precision(network: Detector, precision: str, processes: DistContext) -> str:
    """Return `precision`, or one that every rank computes in where theirs are different GPUs."""
    precision = usable_precision(network, precision)
    device = network.anchors.device
    kinds = [torch.float32, torch.float16, torch.bfloat16]  # the earlier, the more GPUs have it
    own = torch.tensor([float(kind == compute_dtype(device, precision)) for kind in kinds])
    asked = processes.all_reduce(own)
    if int(asked.max()) == processes.world_size:
        return precision
    common = str(kinds[int(asked.nonzero()[0])]).removeprefix("torch.")
    log.warning("note: the ranks' GPUs differ: all compute in %s", common)
    return common


def network_of(job: TrainingJob) -> tuple[Detector, bool]:
    """Build the network to train, on the CPU, its frozen layers excluded; see `build_network`."""
    network, head_kept = build_network(job.settings, job.weights, job.train.class_names)
    set_batch_norm_momentum(network, job.settings.batch_norm_momentum)
    freeze(network, job.settings.freeze)
    if job.settings.sync_bn and job.processes.is_distributed:
        nn.SyncBatchNorm.convert_sync_batchnorm(network)  # in place
    elif job.settings.sync_bn:
        log.info("sync_bn has no effect: one device sees whole batches anyway")
    return network, head_kept


def training_batches(
    job: TrainingJob, image_size: int, stride: int, images: ImageCache | None = None
) -> TrainingLoader:
    """Return the loader of the training split: this rank's share of every batch.

    Raises TaskError(CONFIG) if the ranks do not all have the same number of images.
    """
    settings, processes = job.settings, job.processes
    loader = training_loader(
        job.train,
        loader_config(job, image_size, stride, settings.batch_size // processes.world_size),
        seed=settings.seed,
        augmentation=build_augmentation(settings),
        batching=build_batching(settings),
        processes=processes,
        images=images,
    )
    processes.assert_equal(
        len(loader.order),
        "the processes found different numbers of training images ({numbers} for each): all must "
        "read the same files, so look above for files that only some could read.",
    )
    return loader


def evaluation_batches(
    job: TrainingJob, image_size: int, stride: int, processes: DistContext = SINGLE_PROCESS
) -> EvaluationLoader:
    """Return the loader of the validation split: all of it, or a rank's share."""
    batch_size = job.settings.batch_size if job.settings.batch_size > 0 else CPU_BATCH_SIZE
    config = loader_config(job, image_size, stride, batch_size)
    return evaluation_loader(job.validation, config, processes=processes)


def loader_config(job: TrainingJob, image_size: int, stride: int, batch_size: int) -> LoaderConfig:
    """Return how a rank loads batches of `batch_size` images."""
    return LoaderConfig(
        image_size,
        batch_size,
        stride=stride,
        workers=job.settings.workers,
        cache=job.settings.cache,
        cache_dir=job.settings.cache_dir,
        on_gpu=job.device.type == "cuda",
        augment_on=augmentation_device(job),
        device_share=job.settings.cache_share,
    )


def augmentation_device(job: TrainingJob) -> torch.device | None:
    """Return where batches are augmented, None for the host.

    Raises TaskError(CONFIG) where settings that were given contradict each other.
    """
    settings, on_host, on_device = job.settings, "", ""
    if settings.augment_on == "host":
        on_host = "augment_on: host"
    elif settings.albumentations:
        on_host = "albumentations, whose filters run on the host,"
    if settings.cache == "gpu":
        on_device = "cache: gpu"
    elif settings.augment_on == "device":
        on_device = "augment_on: device"
    if on_host and on_device:
        raise TaskError(
            Code.CONFIG, f"{on_host} and {on_device} contradict each other: leave one of them out."
        )
    if on_host or (settings.augment_on == "auto" and job.device.type == "cpu"):
        return None
    return job.device
