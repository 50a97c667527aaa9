"""Build the parts of a training from its settings: network, augmentation, batches, loss."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

from torch import nn

from data.augmentations import Augmentation
from data.samplers import BatchingConfig
from models.checkpoint import load_checkpoint, model_config_of
from models.detector import Detector
from models.loss import DetectionLoss, LossConfig, scale_gains
from models.model_config import read_model_config
from models.summary import summarize
from models.transfer import transfer
from settings.train import DEFAULT_MODEL, TrainSettings
from training.autoanchor import with_anchor_count
from utils.errors import Code, TaskError
from utils.official_weights import COCO_START

log = logging.getLogger(__name__)


def build_network(
    settings: TrainSettings, weights: Path | None, names: Sequence[str]
) -> tuple[Detector, bool]:
    """Build a network on the CPU, from scratch or from a checkpoint as far as it fits.

    The setting `model` names it; without that it is the network of `weights`. A model file's own
    anchors are used, and those of `weights` where only its network has the name. With another
    number of `anchors` their sizes are yet to be fitted. Also return whether the anchors belong to
    a head whose classes were kept by name.
    """
    model, activation = settings.model, settings.activation
    if weights is None:
        config = read_model_config(model or DEFAULT_MODEL, len(names), activation=activation)
        network = Detector(with_anchor_count(config, settings.anchors))
        log.info(
            "no weights given: training %s from scratch; with few images start from COCO weights "
            "(docs/weights.md): %s",
            *(model or DEFAULT_MODEL, COCO_START),
        )
        log.info("%s: %s", model or DEFAULT_MODEL, summarize(network))
        return network, False
    checkpoint, from_file = load_checkpoint(weights), Path(model).is_file()
    config = own = model_config_of(checkpoint, len(names), activation=activation)
    if model:
        asked = read_model_config(model, len(names), activation=activation)
        is_other = (asked.layers, asked.head_sources) != (own.layers, own.head_sources)
        config = asked if is_other or from_file else own
        if is_other:
            log.warning(
                "model %s is another network than that of %s: %s is trained, from the tensors that "
                "fit (without the setting model it is the network of the weights)",
                *(model, weights, model),
            )
    network = Detector(with_anchor_count(config, settings.anchors))
    log.info("%s: %s", weights if config is own else model, summarize(network))
    trained_with = model_config_of(checkpoint).activation
    if config.activation != trained_with:
        log.warning(
            "activation: %s is trained, the weights come from %s", config.activation, trained_with
        )
    # A model file may also give a mere number of anchors, which says nothing of their sizes.
    listed = from_file and isinstance(config.definition["anchors"], (list, tuple))
    report = transfer(network, checkpoint, names, keep_anchors=listed or settings.anchors > 0)
    log.info("from %s: %d of %d tensors taken", weights, report.copied, report.total)
    log.info("%s", "\n".join(report.lines()))
    return network, report.anchors_belong_to_head


def freeze(network: Detector, chosen: Sequence[int]) -> None:
    """Exclude the layers that the setting `freeze` names from training.

    As in v7.0 one number k means the layers 0 to k - 1, several mean exactly those. Raises
    TaskError(CONFIG) for a layer that the network does not have, or if no layer is left to train.
    """
    count = len(network.model)
    layers = range(chosen[0]) if len(chosen) == 1 else chosen
    if max(layers, default=0) >= count:
        raise TaskError(
            Code.CONFIG,
            f"the setting freeze names layer {max(layers)}, but the network has {count} layers, "
            f"0 to {count - 1}.",
        )
    for layer in layers:
        network.model[layer].requires_grad_(False)
    if not any(parameter.requires_grad for parameter in network.parameters()):
        raise TaskError(
            Code.CONFIG, "the setting freeze leaves no layer to train; freeze fewer layers."
        )


def set_batch_norm_momentum(network: Detector, momentum: float) -> None:
    """Let each training batch count for `momentum` in the batch-norm statistics.

    It is of this training alone: checkpoints keep the momentum of the model. 0 changes nothing.
    """
    if momentum == 0:
        return
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = momentum


def set_train_mode(network: Detector) -> None:
    """Set training mode for all but frozen layers, whose batch statistics must not move.

    v7.0 lets them move: a frozen layer then still changes what it computes.
    """
    network.train()
    for layer in network.model:
        if not any(parameter.requires_grad for parameter in layer.parameters()):
            layer.eval()


def build_augmentation(settings: TrainSettings) -> Augmentation:
    """Return the augmentation settings."""
    return Augmentation(**{one.name: getattr(settings, one.name) for one in fields(Augmentation)})


def build_batching(settings: TrainSettings) -> BatchingConfig:
    """Return which images an epoch has, and in which batches."""
    return BatchingConfig(
        rect=settings.rect and not settings.image_weights,
        image_weights=settings.image_weights,
        quad=settings.quad,
        mosaic_epochs=max(settings.epochs - settings.close_mosaic, 0),
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
