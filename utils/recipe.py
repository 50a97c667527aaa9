"""From the settings to the parts of a training: network, augmentation, schedule and loss."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

from models.checkpoint import load_checkpoint, transfer
from models.detector import Detector
from models.layout import parse_layout, read_layout
from models.loss import DetectionLoss, scale_gains
from utils.augment import Augmentation
from utils.autoanchor import with_anchor_count
from utils.config import TrainSettings
from utils.schedule import Schedule

log = logging.getLogger(__name__)


def starting_network(
    model: str, weights: Path | None, names: Sequence[str], anchors: int = 0
) -> Detector:
    """A fresh network, or one that starts from a checkpoint as far as it fits.

    `anchors` is another number of anchors per level, 0 for what the model has.
    """
    if weights is None:
        log.info("no weights given: %s is trained from scratch", model)
        return Detector(with_anchor_count(read_layout(model, nc=len(names)), anchors))
    checkpoint = load_checkpoint(weights)
    layout = parse_layout(checkpoint.layout, nc=len(names))
    network = Detector(with_anchor_count(layout, anchors))
    report = transfer(network, checkpoint, names)
    log.info(
        "from %s: %d of %d tensors taken, %s", weights, report.copied, report.total, report.note
    )
    return network


def augmentation(settings: TrainSettings) -> Augmentation:
    """The part of the settings that says how training images are varied."""
    return Augmentation(
        **{name: getattr(settings, name) for name in (item.name for item in fields(Augmentation))}
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
    """The loss with its gains fitted to the network and the image size."""
    gains = scale_gains(
        settings.box,
        settings.obj,
        settings.cls,
        num_levels=len(network.stride),
        num_classes=network.nc,
        image_size=image_size,
    )
    return DetectionLoss(
        network.anchors,
        num_classes=network.nc,
        gains=gains,
        anchor_threshold=settings.anchor_t,
        cls_pw=settings.cls_pw,
        obj_pw=settings.obj_pw,
        fl_gamma=settings.fl_gamma,
        label_smoothing=settings.label_smoothing,
    )
