"""Layers of a network that training leaves as they are, batch statistics included."""

from __future__ import annotations

from collections.abc import Sequence

from models.detector import Detector
from utils.errors import Code, TaskError


def frozen_layers(chosen: Sequence[int], count: int) -> tuple[int, ...]:
    """The layers meant by the setting `freeze` in a network of `count` layers.

    As in v7.0: one number k means the layers 0 to k - 1, several mean exactly those. Raises
    TaskError(CONFIG) for a layer that the network does not have.
    """
    layers = range(chosen[0]) if len(chosen) == 1 else sorted(set(chosen))
    beyond = [layer for layer in layers if layer >= count]
    if beyond:
        raise TaskError(
            Code.CONFIG,
            f"the setting freeze names layer {beyond[-1]}, but the network has {count} layers, "
            f"0 to {count - 1}.",
        )
    return tuple(layers)


def freeze(network: Detector, layers: Sequence[int]) -> None:
    """Take the parameters of `layers` out of training, in place.

    Raises TaskError(CONFIG) when that leaves nothing to train.
    """
    for layer in layers:
        network.model[layer].requires_grad_(False)
    if not any(parameter.requires_grad for parameter in network.parameters()):
        raise TaskError(
            Code.CONFIG, "the setting freeze leaves no layer to train; freeze fewer layers."
        )


def training_mode(network: Detector, layers: Sequence[int]) -> None:
    """Training mode for all but the frozen `layers`, whose statistics must not move.

    v7.0 lets them move: a frozen layer then still changes what it computes.
    """
    network.train()
    for layer in layers:
        network.model[layer].eval()
