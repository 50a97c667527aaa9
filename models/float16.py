"""Whether a network can compute in float16, which ends at 65,504 and does not work on every GPU."""

from __future__ import annotations

import copy
import logging

import torch

from models.detector import Detector
from utils.device import autocast, compute_dtype, describe
from utils.seeding import torch_generator

log = logging.getLogger(__name__)

TOLERANCE = 0.1
"""Largest RMS difference of a map of logits from float32's, as a share of float32's own RMS."""


def usable_precision(network: Detector, precision: str) -> str:
    """Return `precision`, or float32 where the network does not compute in its float16; log that.

    float16 is for GPUs. One picture of noise is tried there: some GPUs of the GTX 16 series give
    zeros or no numbers at all.
    """
    device = network.anchors.device
    if device.type == "cpu" and precision == "float16":
        log.warning("note: the precision float16 needs a GPU: computing in float32")
        return "float32"
    if compute_dtype(device, precision) != torch.float16 or _computes(network, precision):
        return precision
    text = "note: float16 does not give this network's numbers on %s: computing in float32"
    log.warning(text, describe(device))
    return "float32"


@torch.no_grad()
def _computes(network: Detector, precision: str) -> bool:
    config, device = network.config, network.anchors.device
    shape = (1, config.channels, 2 * config.input_multiple, 2 * config.input_multiple)
    images = torch.rand(shape, generator=torch_generator(0)).to(device)
    images = images.contiguous(memory_format=torch.channels_last)
    twin = copy.deepcopy(network).eval()
    expected = twin(images)
    with autocast(device, precision):
        found = twin(images)
    differences = [
        (one.float() - other).square().mean() / other.square().mean()
        for one, other in zip(found, expected, strict=True)
    ]
    return bool((torch.stack(differences) < TOLERANCE**2).all())  # not a number is no less
