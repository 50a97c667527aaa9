"""A training step: what one batch does to the network, the optimiser and the EMA."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from models.detector import Detector
from models.loss import LossParts, pad_targets
from training.ema import ModelEMA
from training.multi_scale import resize
from training.optimizer import OptimizerStep
from utils.device import autocast, compute_dtype
from utils.distributed import SINGLE_PROCESS, DistContext
from utils.memory import Pieces


@dataclass(frozen=True)
class BatchGradients:
    """Forward pass, loss and backward pass of a batch, in pieces if memory runs out.

    `model` is called: the network; it and `criterion` may be compiled. `factor` multiplies the
    loss; `share` and `padded` are those of `DetectionLoss`. The loss of all pieces is that of the
    batch. They differ from it in the batch statistics alone, which are those of a piece; layers
    before the place where memory ran out have counted the batch once more in their running ones.
    """

    model: Callable[[Tensor], list[Tensor]]
    criterion: Callable[..., LossParts]
    match_counts: Callable[[Tensor, tuple[int, int]], Tensor]
    """Numbers of matches [levels] of targets, for inputs of a size (height, width)."""
    optimizer_step: OptimizerStep
    device: torch.device
    precision: str
    factor: int = 1
    share: Callable[[Tensor], Tensor] | None = None
    padded: bool = False
    pieces: Pieces | None = field(default_factory=Pieces)
    """None where an error must not be survived: other ranks would wait for this one's layers."""

    def __call__(self, images: Tensor, targets: Tensor, size: tuple[int, int]) -> Tensor:
        """Add the gradients of a batch to those that are pending; return its three loss terms.

        `images` are uint8 RGB [b, 3, h, w], resized to `size` (height, width); `targets` are those
        of `DetectionLoss`; the terms are box, objectness and class loss, [3].
        """
        count = len(images)
        share = self.share and _asked_once(self.share)

        @functools.cache
        def divisors() -> Tensor:
            counts = self.match_counts(targets.to(self.device), size)
            return counts.clamp(min=1) if share is None else share(counts)

        def add(part: slice) -> Tensor:
            own = part.stop - part.start
            if own == count:
                return self._add(images, targets, size, share)
            few = _targets_of(targets, part)
            # A loss is multiplied by its number of images.
            scale = own / count
            terms = self._add(images[part], few, size, divisors=divisors() * scale)
            return terms.mul_(scale)

        if self.pieces is None:
            return add(slice(0, count))
        terms = self.pieces.run(add, count)
        return torch.stack(terms).sum(0) if len(terms) > 1 else terms[0]

    def _add(
        self,
        images: Tensor,
        targets: Tensor,
        size: tuple[int, int],
        share: Callable[[Tensor], Tensor] | None = None,
        divisors: Tensor | None = None,
    ) -> Tensor:
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
        losses = self.criterion(maps, targets, share, padded=self.padded, divisors=divisors)
        total = losses.total
        self.optimizer_step.backward(total * self.factor if self.factor != 1 else total)
        return torch.stack([losses.box, losses.obj, losses.cls])


@dataclass(frozen=True)
class TrainingStep:
    """The gradients of a batch; a step of optimiser and EMA when enough batches are added up.

    The ranks add their gradients up before a step, so not while a batch is computed: one that runs
    out of memory repeats its own.
    """

    gradients: BatchGradients
    network: Detector
    ema: ModelEMA[Detector]
    processes: DistContext = SINGLE_PROCESS

    def __call__(self, images: Tensor, targets: Tensor, size: tuple[int, int]) -> Tensor:
        """Train on a batch as in `BatchGradients`; return its three loss terms."""
        losses = self.gradients(images, targets, size)
        step_of = self.gradients.optimizer_step
        if step_of.count_batch():
            self.processes.add_up(step_of.gradients())
            step_of.update()
            self.finish()
        return losses

    def finish(self) -> None:
        """Count an update of the weights, and move the EMA."""
        step_of = self.gradients.optimizer_step
        step_of.count_step()
        self.ema.update(self.network, step_of.skipped)


def share_pending(optimizer_step: OptimizerStep, processes: DistContext) -> None:
    """Give every rank an equal part of the gradients that are pending after an epoch.

    What rank 0 saves for resuming is then what each has.
    """
    if optimizer_step.pending and processes.is_distributed:
        gradients = optimizer_step.gradients()
        processes.add_up(gradients)
        torch._foreach_div_(gradients, processes.world_size)


def _asked_once(share: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """Return the same for one batch: other ranks do not repeat it when memory runs out here."""
    answers: list[Tensor] = []

    def ask(counts: Tensor) -> Tensor:
        if not answers:
            answers.append(share(counts))
        return answers[0]

    return ask


def _targets_of(targets: Tensor, part: slice) -> Tensor:
    """Return the targets of a piece of a batch: those of other images lose their size.

    Of the same shape, so that no host waits; without a size they match nothing.
    """
    moved = targets.clone()
    image = targets[:, 0]
    inside = (image >= part.start) & (image < part.stop)
    moved[:, 0] = (image - part.start).clamp(0, part.stop - part.start - 1)
    moved[:, 4:] *= inside[:, None]
    return moved


def network_input(
    images: Tensor, device: torch.device, dtype: torch.dtype = torch.float32
) -> Tensor:
    """Convert uint8 RGB [b, 3, h, w] to 0..1 of `dtype` on the device, channels last."""
    moved = images.to(device, non_blocking=True)
    # The memory format changes last: a CPU moves bytes no faster than wider numbers.
    return moved.to(dtype).div_(255).contiguous(memory_format=torch.channels_last)
