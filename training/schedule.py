"""The schedule of learning rates, momentum and gradient accumulation."""

from __future__ import annotations

import math
from dataclasses import dataclass

from settings.train import TrainSettings

# Shortest warm-up of v7.0, in iterations.
_MINIMUM_WARMUP = 100


@dataclass(frozen=True)
class StepSettings:
    """The optimiser's settings for one iteration."""

    bias_lr: float
    lr: float
    """Of all parameters but the biases."""
    momentum: float
    accumulate: int
    """Number of batches over which gradients are accumulated."""


def batches_per_step(settings: TrainSettings) -> int:
    """Return how many batches make up about one nominal batch, at least 1."""
    return max(round(settings.nominal_batch_size / settings.batch_size), 1)


def scaled_weight_decay(settings: TrainSettings) -> float:
    """Scale the weight decay to the images that one optimiser step sees, as v7.0 does."""
    seen = settings.batch_size * batches_per_step(settings)
    return settings.weight_decay * seen / settings.nominal_batch_size


@dataclass(frozen=True)
class Schedule:
    """The schedule of v7.0: a warm-up by iteration, then one learning rate per epoch.

    The batch size of the settings is that of all ranks together. During the warm-up the learning
    rate rises from 0 (biases: falls from `warmup_bias_lr`), momentum from `warmup_momentum` and
    accumulation from 1.
    Two defects of v7.0 are off by default: after the warm-up its rates lag one epoch behind
    (`lag`), and its warm-up of at least 100 iterations may exceed a short run; here it ends at
    half of the run at the latest (`cap_warmup`).
    """

    settings: TrainSettings
    batches_per_epoch: int
    slowed: float = 1.0
    """What all rates are multiplied by."""
    lag: bool = False
    cap_warmup: bool = True

    @property
    def warmup_iterations(self) -> int:
        """The last iteration of the warm-up (inclusive)."""
        warmup = round(self.settings.warmup_epochs * self.batches_per_epoch)
        iterations = max(warmup, _MINIMUM_WARMUP)
        half = self.settings.epochs * self.batches_per_epoch // 2
        return min(iterations, half) if self.cap_warmup else iterations

    def at(self, iteration: int) -> StepSettings:
        """Return the settings of an iteration, counted from 0 over all epochs."""
        settings, last = self.settings, self.warmup_iterations
        epoch = iteration // self.batches_per_epoch
        if iteration > last:
            lagging = self.lag and epoch > last // self.batches_per_epoch
            rate = self.learning_rate(epoch - 1 if lagging else epoch)
            return StepSettings(rate, rate, settings.momentum, batches_per_step(settings))
        rate = self.learning_rate(epoch)
        batches = _between(iteration, last, 1, settings.nominal_batch_size / settings.batch_size)
        return StepSettings(
            bias_lr=_between(iteration, last, settings.warmup_bias_lr * self.slowed, rate),
            lr=_between(iteration, last, 0.0, rate),
            momentum=_between(iteration, last, settings.warmup_momentum, settings.momentum),
            accumulate=max(1, round(batches)),
        )

    def learning_rate(self, epoch: int) -> float:
        """Return `lr0` at epoch 0, falling to its fraction `lrf` at the end; times `slowed`."""
        epochs, final = self.settings.epochs, self.settings.lrf
        if self.settings.schedule == "cosine":
            factor = (1 - math.cos(math.pi * epoch / epochs)) / 2 * (final - 1) + 1
        else:
            factor = (1 - epoch / epochs) * (1 - final) + final
        return self.settings.lr0 * factor * self.slowed


def _between(position: int, last: int, start: float, end: float) -> float:
    """Interpolate linearly from `start` at 0 to `end` at `last`."""
    return end if position >= last else (end - start) / last * position + start
