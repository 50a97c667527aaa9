"""Optimiser, parameter groups, and the step with gradient accumulation and clipping."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.optim import SGD, Adam, AdamW, Optimizer

from training.schedule import StepSettings

OptimizerKind = Literal["sgd", "adam", "adamw"]

# Devices with fused optimisers, which can skip a step with non-finite gradients by themselves.
_FUSED_DEVICES = {"cpu", "cuda"}


@dataclass(frozen=True)
class NonFinite:
    """Number of losses that were not finite, and of steps skipped for such gradients."""

    losses: int
    steps: int


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Return the optimiser's parameter groups: biases, weights, weights of normalisations (v7.0).

    Only the second group decays. The first also holds whatever else has fewer than two dimensions
    (v7.0 decays oddly named biases). A shared parameter counts once, a frozen one not at all.
    """
    biases: list[nn.Parameter] = []
    weights: list[nn.Parameter] = []
    norms: list[nn.Parameter] = []
    seen: set[nn.Parameter] = set()
    for module in model.modules():
        normalises = "Norm" in type(module).__name__
        for name, parameter in module.named_parameters(recurse=False):
            if parameter in seen or not parameter.requires_grad:
                continue
            seen.add(parameter)
            if normalises and name == "weight":
                norms.append(parameter)
            elif name.endswith("bias") or parameter.ndim < 2:
                biases.append(parameter)
            else:
                weights.append(parameter)
    return [
        {"params": biases, "weight_decay": 0.0},
        {"params": weights, "weight_decay": weight_decay},
        {"params": norms, "weight_decay": 0.0},
    ]


def build_optimizer(
    model: nn.Module,
    *,
    kind: OptimizerKind = "sgd",
    lr: float,
    momentum: float,
    weight_decay: float,
) -> Optimizer:
    """Build an optimiser over the three parameter groups.

    `weight_decay` is already scaled to the batch. "sgd" uses Nesterov momentum; the Adams take
    `momentum` as their first beta. The model must be on its device already.
    """
    groups = parameter_groups(model, weight_decay)
    fused = all(parameter.device.type in _FUSED_DEVICES for parameter in model.parameters())
    foreach = not fused
    if kind != "sgd":
        adam = Adam if kind == "adam" else AdamW
        return adam(groups, lr=lr, betas=(momentum, 0.999), fused=fused, foreach=foreach)
    optimizer = SGD(
        groups, lr=lr, momentum=momentum, nesterov=momentum > 0, fused=fused, foreach=foreach
    )
    # A skipped first step would otherwise leave the fused kernel uninitialised memory.
    for parameter in (parameter for group in groups for parameter in group["params"]):
        optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
    return optimizer


class OptimizerStep:
    """Accumulate gradients over batches, clip their norm and step the optimiser.

    Gradients are summed over `accumulate` batches. What is pending at the end of an epoch is
    carried over to the next one (v7.0 loses it); `flush` applies it. A step whose gradient norm is
    not finite changes neither weights nor optimiser state and is counted in `non_finite`, the only
    method that waits for the device.
    """

    def __init__(self, optimizer: Optimizer, *, max_norm: float = 10.0) -> None:
        self.optimizer = optimizer
        self.max_norm = max_norm
        self.accumulate = 1
        self.pending = 0
        self.steps = 0
        self._parameters = [p for group in optimizer.param_groups for p in group["params"]]
        self._fused = all(bool(group.get("fused")) for group in optimizer.param_groups)
        self._non_finite = torch.zeros(2, dtype=torch.int64, device=self._parameters[0].device)

    def set(self, settings: StepSettings) -> None:
        """Set the schedule's values for the coming batch (Adam's first beta stays)."""
        rates = (settings.bias_lr, settings.weight_lr, settings.norm_lr)
        for group, rate in zip(self.optimizer.param_groups, rates, strict=True):
            group["lr"] = rate
            if "momentum" in group:
                group["momentum"] = settings.momentum
        self.accumulate = settings.accumulate

    def backward_and_step(self, loss: Tensor) -> bool:
        """Backpropagate a scalar loss; return True if this completed an optimiser step."""
        self._non_finite[0] += ~torch.isfinite(loss.detach())
        loss.backward()
        self.pending += 1
        return self.pending >= self.accumulate and self.flush()

    def flush(self) -> bool:
        """Step with the accumulated gradients; return False if there are none."""
        if not self.pending:
            return False
        norm = nn.utils.clip_grad_norm_(self._parameters, self.max_norm)
        skip = ~torch.isfinite(norm)
        self._non_finite[1] += skip
        self._step_unless(skip)
        self.optimizer.zero_grad(set_to_none=True)
        self.pending = 0
        self.steps += 1
        return True

    def state(self) -> dict[str, object]:
        """Return everything that later steps depend on, as plain values and live tensors.

        Per parameter, in the order of the groups: the optimiser's tensors and the pending
        gradient. Learning rates and momentum are not part of it: `set` brings them.
        """
        return {
            "optimizer": [dict(self.optimizer.state[one]) for one in self._parameters],
            "gradients": [one.grad if self.pending else None for one in self._parameters],
            "pending": self.pending,
            "steps": self.steps,
            "non_finite": self._non_finite,
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Load what `state` returned, for a network of the same parameters."""
        saved = zip(self._parameters, state["optimizer"], state["gradients"], strict=True)
        for parameter, tensors, gradient in saved:
            self.optimizer.state[parameter] = {
                name: self._placed(value, parameter) for name, value in tensors.items()
            }
            parameter.grad = None if gradient is None else self._placed(gradient, parameter)
        self.pending, self.steps = state["pending"], state["steps"]
        self._non_finite.copy_(state["non_finite"])

    def _placed(self, value: Tensor, parameter: Tensor) -> Tensor:
        """Return a saved tensor where the optimiser wants it.

        One of the weights' shape gets their memory format: the fused kernels pair elements by
        address. A counter of steps is on the device only for those kernels.
        """
        if value.shape == parameter.shape:
            return torch.empty_like(parameter, dtype=value.dtype).copy_(value)
        return value.to(parameter.device if self._fused else "cpu", copy=True)

    def non_finite(self) -> NonFinite:
        """Return how many losses and steps were not finite so far. Waits for the device."""
        losses, steps = self._non_finite.tolist()
        return NonFinite(losses, steps)

    def _step_unless(self, skip: Tensor) -> None:
        if not self._fused:
            if not skip:
                self.optimizer.step()
            return
        # The contract between torch's GradScaler and fused optimisers: decided on the device.
        self.optimizer.found_inf = skip.float()  # type: ignore[attr-defined]
        try:
            self.optimizer.step()
        finally:
            del self.optimizer.found_inf  # type: ignore[attr-defined]
