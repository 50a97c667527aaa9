"""Build the parts of a training from its settings: network, augmentation, schedule, loss."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

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
from utils.errors import Code, TaskError

log = logging.getLogger(__name__)


def build_network(
    model: str,
    weights: Path | None,
    names: Sequence[str],
    *,
    activation: str = "",
    anchors: int = 0,
) -> Detector:
    """Build a network from scratch, or from a checkpoint as far as it fits.

    The architecture is that of `weights`, unless `model` is the path of a model file: then that
    is built, with the anchors that it lists. `activation` replaces that of the model file or of
    the checkpoint. `anchors` is another number of anchors per level, whose sizes are yet to be
    fitted; 0 for the model's own.
    """
    if weights is None:
        log.info("no weights given: training %s from scratch", model)
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


def freeze(network: Detector, chosen: Sequence[int]) -> tuple[int, ...]:
    """Exclude the layers that the setting `freeze` names from training; return them.

    As in v7.0 one number k means the layers 0 to k - 1, several mean exactly those. Raises
    TaskError(CONFIG) for a layer that the network does not have, or if no layer is left to train.
    """
    count = len(network.model)
    layers = tuple(range(chosen[0]) if len(chosen) == 1 else sorted(set(chosen)))
    if layers and layers[-1] >= count:
        raise TaskError(
            Code.CONFIG,
            f"the setting freeze names layer {layers[-1]}, but the network has {count} layers, "
            f"0 to {count - 1}.",
        )
    for layer in layers:
        network.model[layer].requires_grad_(False)
    if not any(parameter.requires_grad for parameter in network.parameters()):
        raise TaskError(
            Code.CONFIG, "the setting freeze leaves no layer to train; freeze fewer layers."
        )
    return layers


def set_train_mode(network: Detector, frozen: Sequence[int]) -> None:
    """Set training mode for all but the `frozen` layers, whose batch statistics must not move.

    v7.0 lets them move: a frozen layer then still changes what it computes.
    """
    network.train()
    for layer in frozen:
        network.model[layer].eval()


def build_augmentation(settings: TrainSettings) -> Augmentation:
    """Return the augmentation settings."""
    if settings.copy_paste:
        log.warning(
            "copy_paste has no effect: it cuts objects out along their outlines, and the "
            "annotations have boxes only"
        )
    return Augmentation(
        **{name: getattr(settings, name) for name in (item.name for item in fields(Augmentation))}
    )


def build_batching(settings: TrainSettings) -> BatchingConfig:
    """Return which images an epoch has, and in which batches."""
    if settings.image_weights and settings.rect:
        log.warning("image_weights draws the images one by one: rect has no effect beside it")
    return BatchingConfig(
        rect=settings.rect and not settings.image_weights,
        image_weights=settings.image_weights,
        quad=settings.quad,
        mosaic_epochs=max(settings.epochs - settings.close_mosaic, 0),
    )


def build_schedule(settings: TrainSettings, steps: int) -> Schedule:
    """Return the learning-rate schedule for `steps` batches an epoch."""
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


def build_criterion(settings: TrainSettings, network: Detector, image_size: int) -> DetectionLoss:
    """Return the loss with its gains scaled to the network and the image size.

    Raises TaskError(CONFIG) if the network's anchors are placeholders.
    """
    if network.has_placeholder_anchors:
        raise TaskError(
            Code.CONFIG,
            "The model file gives only the number of anchors (anchors: "
            f"{network.head.anchors_per_level}), and no sizes were fitted to the boxes, so it "
            "cannot learn; list the widths and heights in the model file, or choose a model that "
            "has them, such as yolov5s.",
        )
    gains = scale_gains(
        settings.box,
        settings.obj,
        settings.cls,
        num_levels=len(network.stride),
        num_classes=network.nc,
        image_size=image_size,
    )
    config = LossConfig(
        *gains,
        anchor_t=settings.anchor_t,
        cls_pw=settings.cls_pw,
        obj_pw=settings.obj_pw,
        fl_gamma=settings.fl_gamma,
        label_smoothing=settings.label_smoothing,
    )
    return DetectionLoss(network.anchors, network.nc, config)
