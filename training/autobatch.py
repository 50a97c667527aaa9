"""AutoBatch: the batch size that fits the GPU's memory, measured with small batches (v7.0)."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from copy import deepcopy

import numpy as np
import torch
from torch import Tensor

from models.detector import Detector
from models.loss import DetectionLoss
from settings.train import TrainSettings
from utils.device import autocast
from utils.errors import Code, TaskError
from utils.seeding import torch_generator

log = logging.getLogger(__name__)

CPU_BATCH_SIZE = 16
"""Batch size of v7.0's AutoBatch on a CPU."""
SIZES = (1, 2, 4, 8, 16)
MEMORY_FRACTION = 0.8
"""Fraction of the free GPU memory that a training may fill (v7.0)."""
LARGEST = 1024
_BOXES_PER_IMAGE = 20


def fitted_batch_size(
    measured: Sequence[tuple[int, float]], budget: float, *, failed: int | None = None
) -> int:
    """Return the largest batch size within `budget` bytes by linear regression, 1 to 1024.

    `measured` holds (batch size, bytes) of at least one size. The largest measured size is
    returned if the regression gives `failed` or more (a size that ran out of memory), does not
    rise, or has a single point.
    """
    sizes, used = np.array(measured, np.float64).T
    safe = int(sizes.max())
    if len(measured) < 2:
        return safe
    slope, intercept = np.polyfit(sizes, used, 1)
    if slope * safe <= 1e-6 * used.max():  # flat but for rounding
        return safe
    fitting = int((budget - intercept) // slope)
    if failed is not None and fitting >= failed:
        return safe
    return max(1, min(fitting, LARGEST))


def measure(peak_of: Callable[[int], float]) -> tuple[list[tuple[int, float]], int | None]:
    """Return (batch size, bytes) until a size runs out of memory, and that size or None."""
    measured = []
    for size in SIZES:
        try:
            measured.append((size, peak_of(size)))
        except torch.cuda.OutOfMemoryError:
            return measured, size
    return measured, None


def automatic_batch_size(
    network: Detector,
    criterion: DetectionLoss,
    settings: TrainSettings,
    device: torch.device,
    image_size: int,
) -> int:
    """Return the batch size for the setting `batch_size: -1`, at least 1; 16 on a CPU.

    `network` is in training mode on `device`; it and torch's random numbers are unchanged. Raises
    TaskError(OUT_OF_MEMORY) if not even one image fits.
    """
    if device.type != "cuda":
        log.info("batch_size -1: %d on a CPU", CPU_BATCH_SIZE)
        return CPU_BATCH_SIZE
    twin = deepcopy(network)  # its memory stands for the EMA's, which is made later
    parameters = sum(parameter.numel() * 4 for parameter in network.parameters())
    torch.cuda.empty_cache()
    reserved = torch.cuda.memory_reserved(device)
    free = torch.cuda.mem_get_info(device)[0]

    def peak_of(size: int) -> float:
        images, targets = _random_batch(size, image_size)
        twin.zero_grad(set_to_none=True)
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
        with autocast(device, settings.precision):
            maps = twin(images.to(device).contiguous(memory_format=torch.channels_last))
        criterion(maps, targets.to(device)).total.backward()
        torch.cuda.synchronize(device)
        return float(torch.cuda.max_memory_reserved(device))

    try:
        measured, failed = measure(peak_of)
    finally:
        torch.cuda.empty_cache()
    if not measured:
        raise TaskError(
            Code.OUT_OF_MEMORY,
            f"not even one image of {image_size} px fits the GPU's {free >> 20} MiB of free "
            "memory: choose a smaller img_size or model.",
        )
    states = 1 if settings.optimizer == "sgd" else 2  # copies of the parameters
    budget = reserved + MEMORY_FRACTION * free - states * parameters
    chosen = fitted_batch_size(measured, budget, failed=failed)
    log.info(
        "batch_size -1: %d images a step (%s MiB for %s images, %d MiB free)",
        chosen,
        ", ".join(f"{used / 2**20:.0f}" for _, used in measured),
        ", ".join(str(size) for size, _ in measured),
        free >> 20,
    )
    return chosen


def _random_batch(size: int, image_size: int) -> tuple[Tensor, Tensor]:
    """Return images [size, 3, image_size, image_size] and targets [n, 6], each of class 0."""
    generator = torch_generator(0)
    targets = torch.rand((size * _BOXES_PER_IMAGE, 6), generator=generator)
    targets[:, 0] = torch.arange(size).repeat_interleave(_BOXES_PER_IMAGE)
    targets[:, 1] = 0
    targets[:, 4:] = targets[:, 4:] * 0.3 + 0.02
    return torch.rand((size, 3, image_size, image_size), generator=generator), targets
