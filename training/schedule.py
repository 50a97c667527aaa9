"""Learning-rate schedule and early stopping."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

ScheduleKind = Literal["linear", "cosine"]

# Shortest warm-up of v7.0, in iterations.
_MINIMUM_WARMUP = 100


@dataclass(frozen=True)
class StepSettings:
    """The optimiser's settings for one iteration.

    Learning rates of the three parameter groups, momentum, and the number of batches over which
    gradients are accumulated.
    """

    bias_lr: float
    weight_lr: float
    norm_lr: float
    momentum: float
    accumulate: int


def learning_rate_factor(
    epoch: float, epochs: int, final: float, kind: ScheduleKind = "linear"
) -> float:
    """Return the factor of the initial learning rate: 1 at epoch 0, `final` at `epochs` (v7.0)."""
    if kind == "cosine":
        return (1 - math.cos(math.pi * epoch / epochs)) / 2 * (final - 1) + 1
    return (1 - epoch / epochs) * (1 - final) + final


def batches_per_step(batch_size: int, nominal_batch_size: int = 64) -> int:
    """Return how many batches make up about one nominal batch, at least 1."""
    return max(round(nominal_batch_size / batch_size), 1)


def scaled_weight_decay(
    weight_decay: float, batch_size: int, nominal_batch_size: int = 64
) -> float:
    """Scale the weight decay to the images that one optimiser step sees, as v7.0 does."""
    seen = batch_size * batches_per_step(batch_size, nominal_batch_size)
    return weight_decay * seen / nominal_batch_size


@dataclass(frozen=True)
class Schedule:
    """The schedule of v7.0: a warm-up by iteration, then one learning rate per epoch.

    `batch_size` is that of all ranks together. During the warm-up the learning rate rises from 0
    (biases: falls from `warmup_bias_lr`), momentum from `warmup_momentum` and accumulation from 1.
    Two defects of v7.0 are off by default: after the warm-up its rates lag one epoch behind
    (`lag`), and its warm-up of at least 100 iterations may exceed a short run; here it ends at
    half of the run at the latest (`cap_warmup`).
    """

    epochs: int
    batches_per_epoch: int
    batch_size: int
    lr0: float = 0.01
    lrf: float = 0.01
    momentum: float = 0.937
    kind: ScheduleKind = "linear"
    warmup_epochs: float = 3.0
    warmup_momentum: float = 0.8
    warmup_bias_lr: float = 0.1
    nominal_batch_size: int = 64
    lag: bool = False
    cap_warmup: bool = True

    @property
    def warmup_iterations(self) -> int:
        """The last iteration of the warm-up (inclusive)."""
        iterations = max(round(self.warmup_epochs * self.batches_per_epoch), _MINIMUM_WARMUP)
        half = self.epochs * self.batches_per_epoch // 2
        return min(iterations, half) if self.cap_warmup else iterations

    def at(self, iteration: int) -> StepSettings:
        """Return the settings of an iteration, counted from 0 over all epochs."""
        epoch = iteration // self.batches_per_epoch
        last = self.warmup_iterations
        if iteration > last:
            lagging = self.lag and epoch > last // self.batches_per_epoch
            rate = self._rate(epoch - 1 if lagging else epoch)
            accumulate = batches_per_step(self.batch_size, self.nominal_batch_size)
            return StepSettings(rate, rate, rate, self.momentum, accumulate)

        rate = self._rate(epoch)
        batches = _between(iteration, last, 1, self.nominal_batch_size / self.batch_size)
        others = _between(iteration, last, 0.0, rate)
        return StepSettings(
            bias_lr=_between(iteration, last, self.warmup_bias_lr, rate),
            weight_lr=others,
            norm_lr=others,
            momentum=_between(iteration, last, self.warmup_momentum, self.momentum),
            accumulate=max(1, round(batches)),
        )

    def _rate(self, epoch: int) -> float:
        return self.lr0 * learning_rate_factor(epoch, self.epochs, self.lrf, self.kind)


def _between(position: int, last: int, start: float, end: float) -> float:
    """Interpolate linearly from `start` at 0 to `end` at `last`."""
    return end if position >= last else (end - start) / last * position + start


@dataclass(frozen=True)
class EarlyStopping:
    """Stop a training without improvement for `patience` epochs; patience 0 never stops.

    Epochs count from 0. An equal fitness is no improvement (v7.0 takes it for one, so that a flat
    curve never stops there).
    """

    patience: int

    def should_stop(self, epoch: int, best_epoch: int) -> bool:
        """Return whether to stop after `epoch` if `best_epoch` has the best fitness so far."""
        return self.patience > 0 and epoch - best_epoch >= self.patience

    def message(self, epoch: int, best_epoch: int) -> str:
        """Return the log line of a stop after `epoch`; epochs are shown from 1."""
        return (
            f"early stopping after epoch {epoch + 1}: no improvement for {epoch - best_epoch} "
            f"epochs (best epoch {best_epoch + 1}, patience {self.patience})"
        )
