"""A training step: what one batch does to the network, the optimiser and the EMA."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from models.detector import Detector
from models.loss import LossParts, pad_targets
from training.ema import ModelEMA
from training.multi_scale import resize
from training.optimizer import OptimizerStep
from utils.device import autocast, compute_dtype


@dataclass(frozen=True)
class BatchGradients:
    """Forward pass, loss and backward pass of a batch.

    `model` is called: the network, wrapped by DDP if there are several ranks; it and `criterion`
    may be compiled. `factor` multiplies the loss; `share` and `padded` are those of
    `DetectionLoss`.
    """

    model: Callable[[Tensor], list[Tensor]]
    criterion: Callable[..., LossParts]
    optimizer_step: OptimizerStep
    device: torch.device
    precision: str
    factor: int = 1
    share: Callable[[Tensor], Tensor] | None = None
    padded: bool = False

    def __call__(self, images: Tensor, targets: Tensor, size: tuple[int, int]) -> Tensor:
        """Add the gradients of a batch to those that are pending; return its three loss terms.

        `images` are uint8 RGB [b, 3, h, w], resized to `size` (height, width); `targets` are those
        of `DetectionLoss`; the terms are box, objectness and class loss, [3].
        """
        device = self.device
        resized = tuple(images.shape[2:]) != size
        # Resizing needs float32.
        dtype = torch.float32 if resized else compute_dtype(device, self.precision)
        inputs = resize(network_input(images, device, dtype), size)
        with autocast(device, self.precision):
            maps = self.model(inputs)
        targets = targets.to(device, non_blocking=True)
        if self.padded:
            targets = pad_targets(targets)
        losses = self.criterion(maps, targets, self.share, padded=self.padded)
        total = losses.total
        self.optimizer_step.backward(total * self.factor if self.factor != 1 else total)
        return torch.stack([losses.box, losses.obj, losses.cls])


@dataclass(frozen=True)
class TrainingStep:
    """The gradients of a batch; a step of optimiser and EMA when enough batches are added up."""

    gradients: BatchGradients
    network: Detector
    ema: ModelEMA[Detector]

    def __call__(self, images: Tensor, targets: Tensor, size: tuple[int, int]) -> Tensor:
        """Train on a batch as in `BatchGradients`; return its three loss terms."""
        losses = self.gradients(images, targets, size)
        step_of = self.gradients.optimizer_step
        if step_of.count_batch():
            step_of.update()
            step_of.count_step()
            self.ema.update(self.network, step_of.skipped)
        return losses


def network_input(
    images: Tensor, device: torch.device, dtype: torch.dtype = torch.float32
) -> Tensor:
    """Convert uint8 RGB [b, 3, h, w] to 0..1 of `dtype` on the device, channels last."""
    moved = images.to(device, non_blocking=True)
    # The memory format changes last: a CPU moves bytes no faster than wider numbers.
    return moved.to(dtype).div_(255).contiguous(memory_format=torch.channels_last)
