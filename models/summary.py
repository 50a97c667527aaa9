"""Size of a network: layers, parameters and operations, counted by the rules of v7.0."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from models.blocks import Conv
from models.detector import Detector

REFERENCE_SIDE = 640
"""Operations are given for a square image of this side in pixels."""


@dataclass(frozen=True)
class Summary:
    """Module objects, numbers in the weights, and 1e9 operations on a 640-pixel square."""

    layers: int
    parameters: int
    gflops: float

    def __str__(self) -> str:
        """Return one line for a log."""
        return (
            f"{self.layers} layers, {self.parameters / 1e6:.2f} M parameters, "
            f"{self.gflops:.1f} GFLOPs at {REFERENCE_SIDE} px"
        )


def summarize(detector: Detector) -> Summary:
    """Count the size of a detector, fused or not, without computing anything."""
    return Summary(
        layers=count_layers(detector),
        parameters=sum(parameter.numel() for parameter in detector.parameters()),
        gflops=count_gflops(detector),
    )


def count_layers(detector: Detector) -> int:
    """Count module objects, containers included, as v7.0 does.

    There every activation is a module too: all Conv units share one, and those without an
    activation, or with one of their own, have one each.
    """
    units = [module for module in detector.modules() if isinstance(module, Conv)]
    own = sum(not unit.default_activation for unit in units)
    shared = any(unit.default_activation for unit in units)
    return sum(1 for _ in detector.modules()) + own + shared


def count_gflops(detector: Detector) -> float:
    """Count 1e9 operations (two per multiply-add) on a 640-pixel square, as v7.0 prints them.

    Counted on the smallest square that passes, at least 32 pixels, and scaled by the area.
    Convolutions and linear maps count their multiply-adds without bias, a normalisation four per
    cell, an upsampling one per cell; activations, pools, sums and attention's products count
    nothing (thop 0.1.1, which v7.0's figures come from).
    """
    side = max(detector.config.input_multiple, 32)
    tensors = (*detector.parameters(), *detector.buffers())
    # A copy whose tensors have a shape and no memory.
    meta = {id(tensor): tensor.detach().to("meta") for tensor in tensors}
    twin = copy.deepcopy(detector, meta).eval()
    counts: list[int] = []
    for module in twin.modules():
        module.register_forward_hook(partial(_append_cost, counts))
    with torch.no_grad():
        twin(torch.zeros(1, detector.config.channels, side, side, device="meta"))
    return 2 * sum(counts) / 1e9 * (REFERENCE_SIDE / side) ** 2


def _append_cost(counts: list[int], module: nn.Module, inputs: object, output: Tensor) -> None:
    if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
        taps = module.kernel_size[0] * module.kernel_size[1]
        counts.append(output.numel() * taps * module.in_channels // module.groups)
    elif isinstance(module, nn.Linear):
        counts.append(output.numel() * module.in_features)
    elif isinstance(module, nn.BatchNorm2d):
        counts.append(output.numel() * 4)
    elif isinstance(module, nn.Upsample):
        counts.append(output.numel())
