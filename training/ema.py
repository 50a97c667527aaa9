"""Exponential moving average (EMA) of a model's weights, which are evaluated and saved."""

from __future__ import annotations

import math
from copy import deepcopy
from typing import Generic, TypeVar

import torch
from torch import Tensor, nn

Model = TypeVar("Model", bound=nn.Module)

_STATISTICS = ("running_mean", "running_var")


class ModelEMA(Generic[Model]):
    """The exponential moving average of a model: `module`, a copy in eval mode.

    Parameters and batch statistics are averaged, other buffers (anchors, counters) copied. Create
    it when the model is complete and on its device. To resume, load `module` and set `updates`.
    Decay and ramp are v7.0's.
    """

    def __init__(self, model: Model, *, final_decay: float = 0.9999, ramp: float = 2000.0) -> None:
        self.module: Model = deepcopy(model).eval().requires_grad_(False)
        self.updates = 0
        self.final_decay = final_decay
        self.ramp = ramp
        self._is_statistic = [
            name.rpartition(".")[2] in _STATISTICS for name, _ in self.module.named_buffers()
        ]

    def decay(self, updates: int) -> float:
        """Return the decay of update number `updates` (from 1), which rises from near 0."""
        return self.final_decay * (1 - math.exp(-updates / self.ramp))

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Move the average toward `model`, once per optimiser step.

        `model` may be wrapped (compiled, DDP): tensors are paired by their order.
        """
        self.updates += 1
        averaged, copied = self._sorted(self.module)
        live, constant = self._sorted(model)
        torch._foreach_lerp_(averaged, live, 1 - self.decay(self.updates))
        if copied:
            torch._foreach_copy_(copied, constant)

    def _sorted(self, model: nn.Module) -> tuple[list[Tensor], list[Tensor]]:
        """Return tensors to average and tensors to copy."""
        averaged: list[Tensor] = list(model.parameters())
        copied: list[Tensor] = []
        for buffer, is_statistic in zip(model.buffers(), self._is_statistic, strict=True):
            (averaged if is_statistic else copied).append(buffer)
        return averaged, copied
