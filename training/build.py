"""From the settings to the parts of a training: network, augmentation, schedule and loss."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

import torch

from data.augmentations import Augmentation
from data.samplers import BatchingConfig
from models.checkpoint import load_checkpoint, model_config_of
from models.detector import Detector
from models.loss import DetectionLoss, LossConfig, scale_gains
from models.model_config import read_model_config
from models.summary import summarize
from models.transfer import transfer
from settings.train import TrainSettings
from training.autoanchor import with_anchor_count
from training.schedule import Schedule
from training.sync_batch_norm import normalise_over_all
from utils.distributed import DistContext
from utils.errors import Code, TaskError

log = logging.getLogger(__name__)


def starting_network(
    model: str,
    weights: Path | None,
    names: Sequence[str],
    *,
    activation: str = "",
    anchors: int = 0,
) -> Detector:
    """A fresh network, or one that starts from a checkpoint as far as it fits.

    With weights the network is theirs, unless `model` is the path of a model file: then that is
    built, with the anchors that it lists. `activation` replaces that of the model file or of the
    checkpoint's definition; `anchors` is another number of anchors per level, 0 for what the model
    has, whose sizes are to be fitted.
    """
    if weights is None:
        log.info("no weights given: %s is trained from scratch", model)
        config = read_model_config(model, nc=len(names), activation=activation)
        network = Detector(with_anchor_count(config, anchors))
        log.info("%s: %s", model, summarize(network))
        return network
    checkpoint = load_checkpoint(weights)
    from_file = Path(model).is_file()
    config = (
        read_model_config(model, len(names), activation=activation)
        if from_file
        else model_config_of(checkpoint, len(names), activation=activation)
    )
    network = Detector(with_anchor_count(config, anchors))
    log.info("%s: %s", weights, summarize(network))
    # A model file may also give a mere number of anchors, which says nothing of their sizes.
    listed = from_file and isinstance(config.definition["anchors"], (list, tuple))
    report = transfer(network, checkpoint, names, keep_anchors=listed or anchors > 0)
    log.info("from %s: %d of %d tensors taken", weights, report.copied, report.total)
    log.info("%s", "\n".join(report.lines()))
    return network


def synchronise(
    network: Detector, wanted: bool, *, processes: DistContext, device: torch.device
) -> None:
    """With `wanted`, give the network batch statistics over all processes, if there are several.

    `device` is where it will be.
    """
    if wanted and processes.is_distributed:
        normalise_over_all(network, device)
    elif wanted:
        log.info("sync_bn has no effect: one device sees whole batches anyway")


def augmentation(settings: TrainSettings) -> Augmentation:
    """The part of the settings that says how training images are varied."""
    if settings.copy_paste:
        log.warning(
            "copy_paste has no effect: it cuts objects out along their outlines, and the "
            "annotations have boxes only"
        )
    return Augmentation(
        **{name: getattr(settings, name) for name in (item.name for item in fields(Augmentation))}
    )


def arrangement(settings: TrainSettings) -> BatchingConfig:
    """The part of the settings that says which images an epoch shows, and in which batches."""
    if settings.image_weights and settings.rect:
        log.warning("image_weights draws the images one by one: rect has no effect beside it")
    return BatchingConfig(
        rect=settings.rect and not settings.image_weights,
        image_weights=settings.image_weights,
        quad=settings.quad,
        mosaic_epochs=max(settings.epochs - settings.close_mosaic, 0),
    )


def schedule(settings: TrainSettings, steps: int) -> Schedule:
    """The learning-rate schedule for `steps` batches an epoch."""
    return Schedule(
        epochs=settings.epochs,
        batches_per_epoch=steps,
        batch_size=settings.batch_size,
        lr0=settings.lr0,
        lrf=settings.lrf,
        momentum=settings.momentum,
        kind="cosine" if settings.schedule == "cosine" else "linear",
        warmup_epochs=settings.warmup_epochs,
        warmup_momentum=settings.warmup_momentum,
        warmup_bias_lr=settings.warmup_bias_lr,
        nominal_batch_size=settings.nominal_batch_size,
    )


def criterion(settings: TrainSettings, network: Detector, image_size: int) -> DetectionLoss:
    """The loss with its gains fitted to the network and the image size.

    Raises `TaskError` (configuration) while the network's anchors are placeholders.
    """
    refuse_placeholder_anchors(network)
    gains = scale_gains(
        settings.box,
        settings.obj,
        settings.cls,
        num_levels=len(network.stride),
        num_classes=network.nc,
        image_size=image_size,
    )
    config = LossConfig(
        gains,
        anchor_t=settings.anchor_t,
        cls_pw=settings.cls_pw,
        obj_pw=settings.obj_pw,
        fl_gamma=settings.fl_gamma,
        label_smoothing=settings.label_smoothing,
    )
    return DetectionLoss(network.anchors, network.nc, config)


def refuse_placeholder_anchors(network: Detector) -> None:
    """End a training whose network was given a number of anchors and no sizes."""
    if network.has_placeholder_anchors:
        count = network.head.anchors_per_level
        raise TaskError(
            Code.CONFIG,
            f"The model file gives only the number of anchors (anchors: {count}), and no sizes "
            "were fitted to the boxes, so it cannot learn; list the widths and heights in the "
            "model file, or choose a model that has them, such as yolov5s.",
        )
