"""From the settings to the parts of a training: network, augmentation, schedule and loss."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

from models.anchors import anchor_fit, label_sizes
from models.checkpoint import layout_of, load_checkpoint
from models.detector import Detector
from models.layout import read_layout
from models.loss import DetectionLoss, scale_gains
from models.transfer import transfer
from utils.augment import Augmentation
from utils.config import TrainSettings
from utils.labels import DatasetIndex
from utils.schedule import Schedule

log = logging.getLogger(__name__)


def starting_network(
    model: str, weights: Path | None, names: Sequence[str], *, own_anchors: bool = False
) -> Detector:
    """A fresh network, or one that starts from a checkpoint as far as it fits.

    With weights the network is theirs, unless `model` is the path of a model file: then that is
    built, with the anchors that it lists. `own_anchors` says that the task sets the anchors some
    other way.
    """
    if weights is None:
        log.info("no weights given: %s is trained from scratch", model)
        return Detector(read_layout(model, nc=len(names)))
    checkpoint = load_checkpoint(weights)
    from_file = Path(model).is_file()
    layout = read_layout(model, len(names)) if from_file else layout_of(checkpoint, len(names))
    network = Detector(layout)
    # A model file may also give a mere number of anchors, which says nothing of their sizes.
    listed = from_file and isinstance(layout.definition["anchors"], (list, tuple))
    report = transfer(network, checkpoint, names, keep_anchors=listed or own_anchors)
    log.info("from %s: %d of %d tensors taken", weights, report.copied, report.total)
    log.info("%s", "\n".join(report.lines()))
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


def log_anchor_fit(
    network: Detector, index: DatasetIndex, image_size: int, threshold: float
) -> None:
    """Say how many of the boxes some anchor can answer for."""
    anchors = (network.anchors * network.stride.view(-1, 1, 1)).reshape(-1, 2).cpu().numpy()
    sizes = label_sizes(index.boxes, index.offsets, index.sizes, image_size)
    fit = anchor_fit(anchors, sizes, threshold)
    log.log(
        logging.INFO if fit.good else logging.WARNING,
        "anchors: best possible recall %.3f, %.2f anchors a box%s",
        fit.best_possible_recall,
        fit.anchors_above_threshold,
        "" if fit.good else " - many boxes fit no anchor: another img_size may help",
    )
