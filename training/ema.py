"""Exponential moving average (EMA) of a model's weights, which are evaluated and saved."""

from __future__ import annotations

import math
from copy import deepcopy
from typing import Generic, TypeVar

import torch
from torch import Tensor, nn

Model = TypeVar("Model", bound=nn.Module)

FINAL_DECAY, RAMP = 0.9999, 2000.0
"""The decay after many updates, and the number of updates in which most of it is reached (v7.0)."""
_STATISTICS = ("running_mean", "running_var")


class ModelEMA(Generic[Model]):
    """The exponential moving average of a model: `module`, a copy in eval mode.

    Parameters and batch statistics are averaged, other buffers (anchors, counters) copied. Create
    it when the model is complete and on its device. To resume, load `module` and set `updates`.
    """

    def __init__(self, model: Model) -> None:
        self.module: Model = deepcopy(model).eval().requires_grad_(False)
        self.updates = 0
        self._is_statistic = [
            name.rpartition(".")[2] in _STATISTICS for name, _ in self.module.named_buffers()
        ]

    @torch.no_grad()
    def update(self, model: nn.Module, skipped: Tensor | None = None) -> None:
        """Move the average toward `model`, once per optimiser step.

        Where `skipped` is 1 and not 0, the step had no effect: the average stays, without a wait,
        though `updates` counts it (the training loop takes it back at the end of the epoch).
        """
        self.updates += 1
        averaged, copied = self._sorted(self.module)
        live, constant = self._sorted(model)
        decay = FINAL_DECAY * (1 - math.exp(-self.updates / RAMP))
        if skipped is None:
            torch._foreach_lerp_(averaged, live, 1 - decay)
        else:
            # A fused SGD step up the gradient `live` with a weight decay of 1 moves the average as
            # far, in one launch, unless the device finds that it is to be skipped.
            torch._fused_sgd_(
                averaged,
                live,
                [],
                lr=1 - decay,
                weight_decay=1.0,
                momentum=0.0,
                dampening=0.0,
                nesterov=False,
                maximize=True,
                is_first_step=False,
                found_inf=skipped,
            )
        if copied:
            torch._foreach_copy_(copied, constant)

    def _sorted(self, model: nn.Module) -> tuple[list[Tensor], list[Tensor]]:
        """Return tensors to average and tensors to copy."""
        averaged: list[Tensor] = list(model.parameters())
        copied: list[Tensor] = []
        for buffer, is_statistic in zip(model.buffers(), self._is_statistic, strict=True):
            (averaged if is_statistic else copied).append(buffer)
        return averaged, copied
