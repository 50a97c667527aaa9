"""Parameter groups, and the accumulate-clip-step gesture."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.optim import SGD, Adam, AdamW, Optimizer

from training.schedule import StepSettings

OptimizerKind = Literal["sgd", "adam", "adamw"]

# Devices whose optimisers are one kernel, which itself can leave out a broken step.
_FUSED_DEVICES = {"cpu", "cuda"}


@dataclass(frozen=True)
class Faults:
    """How often something was not finite: losses, and gradients (whose step was left out)."""

    losses: int
    steps: int

    def __bool__(self) -> bool:
        return bool(self.losses or self.steps)


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """The parameters as an optimiser's groups: biases, weights, weights of normalisations.

    Only the second group decays. Beside biases the first holds whatever else has fewer than two
    dimensions (v7.0 decays oddly named biases). A shared parameter counts once, a frozen one
    (without gradient) not at all.
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
    """An optimiser over the three groups (bias, weight, norm; in this order).

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
    # A first step that is left out would otherwise leave the fused kernel uninitialised memory.
    for parameter in (parameter for group in groups for parameter in group["params"]):
        optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
    return optimizer


class OptimizerStep:
    """Gathers gradients over batches, clips their norm and steps the optimiser.

    Gradients are summed over `accumulate` batches. What is left at the end of an epoch is
    carried over to the next one; `flush` applies it, after the last epoch or before a state is
    saved (v7.0 loses it). A step whose gradient norm is not finite changes no weight and no
    optimiser state; `faults` tells how often that happened. Nothing else waits for the device.
    """

    def __init__(self, optimizer: Optimizer, *, max_norm: float = 10.0) -> None:
        self.optimizer = optimizer
        self.max_norm = max_norm
        self.accumulate = 1
        self.pending = 0
        self.steps = 0
        self._parameters = [p for group in optimizer.param_groups for p in group["params"]]
        self._fused = all(bool(group.get("fused")) for group in optimizer.param_groups)
        self._faults = torch.zeros(2, dtype=torch.int64, device=self._parameters[0].device)

    def set(self, settings: StepSettings) -> None:
        """Take the schedule's values for the coming batch (Adam's first beta stays)."""
        rates = (settings.bias_lr, settings.weight_lr, settings.norm_lr)
        for group, rate in zip(self.optimizer.param_groups, rates, strict=True):
            group["lr"] = rate
            if "momentum" in group:
                group["momentum"] = settings.momentum
        self.accumulate = settings.accumulate

    def backward_and_step(self, loss: Tensor) -> bool:
        """Add the gradients of a scalar loss; True when this completed a step."""
        self._faults[0] += ~torch.isfinite(loss.detach())
        loss.backward()
        self.pending += 1
        return self.pending >= self.accumulate and self.flush()

    def flush(self) -> bool:
        """Step with whatever has been gathered; False when there is nothing."""
        if not self.pending:
            return False
        norm = nn.utils.clip_grad_norm_(self._parameters, self.max_norm)
        broken = ~torch.isfinite(norm)
        self._faults[1] += broken
        self._step_unless(broken)
        self.optimizer.zero_grad(set_to_none=True)
        self.pending = 0
        self.steps += 1
        return True

    def state(self) -> dict[str, object]:
        """Everything that later steps depend on, as plain values and live tensors.

        Per parameter, in the order of the groups: the optimiser's tensors and the gradient that
        waits for a step. Learning rates and momentum are not part of it: `set` brings them.
        """
        return {
            "optimizer": [dict(self.optimizer.state[one]) for one in self._parameters],
            "gradients": [one.grad if self.pending else None for one in self._parameters],
            "pending": self.pending,
            "steps": self.steps,
            "faults": self._faults,
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state` gave, for a network of the same parameters."""
        kept = zip(self._parameters, state["optimizer"], state["gradients"], strict=True)
        for parameter, tensors, gradient in kept:
            self.optimizer.state[parameter] = {
                name: self._placed(value, parameter) for name, value in tensors.items()
            }
            parameter.grad = None if gradient is None else self._placed(gradient, parameter)
        self.pending, self.steps = state["pending"], state["steps"]
        self._faults.copy_(state["faults"])

    def _placed(self, value: Tensor, parameter: Tensor) -> Tensor:
        """A tensor of a state where the optimiser wants it.

        One that goes with the weights lies in memory as they do: the fused kernels pair elements
        by address. A counter of steps is on the device only for those kernels.
        """
        if value.shape == parameter.shape:
            return torch.empty_like(parameter, dtype=value.dtype).copy_(value)
        return value.to(parameter.device if self._fused else "cpu", copy=True)

    def faults(self) -> Faults:
        """Losses and steps so far that were not finite. Waits for the device: ask rarely."""
        losses, steps = self._faults.tolist()
        return Faults(losses, steps)

    def _step_unless(self, broken: Tensor) -> None:
        if not self._fused:
            if not broken:
                self.optimizer.step()
            return
        # The contract between torch's GradScaler and fused optimisers: decided on the device.
        self.optimizer.found_inf = broken.float()  # type: ignore[attr-defined]
        try:
            self.optimizer.step()
        finally:
            del self.optimizer.found_inf  # type: ignore[attr-defined]
