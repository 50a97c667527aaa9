"""Optimiser, parameter groups, and the step with gradient accumulation and clipping."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import SGD, Adam, AdamW, Optimizer

from settings.train import TrainSettings
from training.schedule import StepSettings, scaled_weight_decay

MAX_NORM = 10.0
"""Largest norm of the gradients of a step; larger ones are scaled down to it (v7.0)."""
FIRST_SCALE, GROWTH, BACKOFF, GROWTH_INTERVAL = 65536.0, 2.0, 0.5, 2000
"""Of a scaled loss: times GROWTH after so many steps that were taken, times BACKOFF after one that
was not. Powers of two change no digit of a gradient. The values are those of torch's GradScaler."""
# Devices with fused optimisers, which can skip a step with non-finite gradients by themselves.
_FUSED_DEVICES = {"cpu", "cuda"}


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


def build_optimizer(model: nn.Module, settings: TrainSettings) -> Optimizer:
    """Build the optimiser of the settings over the three parameter groups.

    SGD uses Nesterov momentum; the Adams take `momentum` as their first beta. The model must be on
    its device already.
    """
    groups = parameter_groups(model, scaled_weight_decay(settings))
    fused = all(parameter.device.type in _FUSED_DEVICES for parameter in model.parameters())
    momentum = settings.momentum
    common: dict[str, Any] = {"lr": settings.lr0, "fused": fused, "foreach": not fused}
    if settings.optimizer != "sgd":
        adam = Adam if settings.optimizer == "adam" else AdamW
        return adam(groups, betas=(momentum, 0.999), **common)
    optimizer = SGD(groups, momentum=momentum, nesterov=momentum > 0, **common)
    # A skipped first step would otherwise leave the fused kernel uninitialised memory.
    for parameter in (parameter for group in groups for parameter in group["params"]):
        optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
    return optimizer


class OptimizerStep:
    """Accumulate gradients over batches, clip their norm and step the optimiser.

    Gradients are summed over `accumulate` batches. What is pending at the end of an epoch is
    carried over to the next one (v7.0 loses it). A step whose gradient norm is not finite changes
    neither weights nor optimiser state. `non_finite` counts losses that were not finite, and steps
    without effect; reading it waits for the device. `rates` are the learning rates of the groups,
    `loads` how often tensors were replaced by those of a saved state.

    If `scaled`, the backward pass begins with `scale` and not 1, so that small gradients do not
    vanish in float16; a step divides them by it. One that overflows has no effect (`skipped` is 1
    and not 0), and the next ones have a smaller scale.
    """

    def __init__(self, optimizer: Optimizer, *, scaled: bool = False) -> None:
        self.optimizer = optimizer
        self.accumulate = 1
        self.pending = 0
        self.steps = self.loads = 0
        self.rates = tuple(float(group["lr"]) for group in optimizer.param_groups)
        self._parameters = [p for group in optimizer.param_groups for p in group["params"]]
        self._fused = all(bool(group.get("fused")) for group in optimizer.param_groups)
        self._device = self._parameters[0].device
        self._keeps_gradients = False
        self.non_finite = torch.zeros(2, dtype=torch.int64, device=self._device)
        self._skip = torch.zeros((), device=self._device)
        self.skipped = self._skip if scaled else None
        self.scale = torch.full_like(self._skip, FIRST_SCALE) if scaled else None
        self._taken = self._skip.int()  # steps since the scale changed

    def set(self, settings: StepSettings) -> None:
        """Set the schedule's values for the coming batch (Adam's first beta stays)."""
        before, self.rates = self.rates, (settings.bias_lr, settings.lr, settings.lr)
        for number, (group, rate) in enumerate(
            zip(self.optimizer.param_groups, self.rates, strict=True)
        ):
            if not isinstance(group["lr"], Tensor):
                # A GPU computes with the float32 that a recorded step reads from a tensor.
                group["lr"] = rate if self._device.type == "cpu" else float(np.float32(rate))
            elif before[number] != rate:
                group["lr"].fill_(rate)
            if "momentum" in group:
                group["momentum"] = settings.momentum
        self.accumulate = settings.accumulate

    def make_recordable(self) -> None:
        """Let `backward` and `update` leave every tensor in its place, and read rates from tensors.

        A recorded `update` then follows the schedule; what it does not follow are `constants`.
        """
        assert self._fused, "a step that the host decides on cannot be recorded"
        self._keeps_gradients = True
        for group in self.optimizer.param_groups:
            group["lr"] = torch.full((), float(group["lr"]), device=self._device)
            if "capturable" in group:
                group["capturable"] = True

    def constants(self) -> list[object]:
        """Return the numbers that `update` does not read from tensors, such as the momentum."""
        return [
            {name: value for name, value in group.items() if name not in ("params", "lr")}
            for group in self.optimizer.param_groups
        ]

    def backward_and_step(self, loss: Tensor) -> bool:
        """Backpropagate a scalar loss; return True if this completed an optimiser step."""
        self.backward(loss)
        if not self.count_batch():
            return False
        self.update()
        self.count_step()
        return True

    def backward(self, loss: Tensor) -> None:
        """Add the gradients of a scalar loss to those that are pending."""
        self.non_finite[0].add_(_is_broken(loss.detach()))
        self._backward(loss)

    def count_batch(self) -> bool:
        """Count a batch; return True if its gradients complete those of a step."""
        self.pending += 1
        return self.pending >= self.accumulate

    def update(self) -> None:
        """Clip the gradients, step the optimiser and clear them."""
        gradients = self.gradients()
        # In the steps of torch's clip_grad_norm_; the scale is a power of two and changes no digit.
        norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))
        if self.scale is not None:
            norm = norm / self.scale
        skip = _is_broken(norm)
        self.non_finite[1].add_(skip)
        self._skip.copy_(skip)
        factor = (MAX_NORM / (norm + 1e-6)).clamp_(max=1)
        if self.scale is not None:
            factor = factor / self.scale
        torch._foreach_mul_(gradients, factor)
        self._step_unless(skip)
        if self.scale is not None:
            torch._amp_update_scale_(
                self.scale, self._taken, self._skip, GROWTH, BACKOFF, GROWTH_INTERVAL
            )
        self.optimizer.zero_grad(set_to_none=not self._keeps_gradients)

    def gradients(self) -> list[Tensor]:
        """Return the pending gradients."""
        return [one.grad for one in self._parameters if one.grad is not None]

    def count_step(self) -> None:
        """Count a step; no gradients are pending after it."""
        self.pending = 0
        self.steps += 1

    def _backward(self, loss: Tensor) -> None:
        """Add the gradients of a loss to those that are pending, or after an error none."""
        pending = [one.grad for one in self._parameters]
        for parameter in self._parameters:
            parameter.grad = None
        try:
            loss.backward(self.scale)  # None counts as 1
        except Exception:
            for parameter, before in zip(self._parameters, pending, strict=True):
                parameter.grad = before
            raise
        # All added up at once: torch launches a kernel for every parameter.
        both = [
            (before, one.grad)
            for one, before in zip(self._parameters, pending, strict=True)
            if before is not None and one.grad is not None
        ]
        if both:
            torch._foreach_add_(*zip(*both, strict=True))
        for parameter, before in zip(self._parameters, pending, strict=True):
            if before is not None:
                parameter.grad = before

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
            "non_finite": self.non_finite,
            "scale": None if self.scale is None else (self.scale, self._taken),
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
        self.loads += 1
        self.non_finite.copy_(state["non_finite"])
        if self.scale is not None and (saved_scale := state.get("scale")):
            self.scale.copy_(saved_scale[0])
            self._taken.copy_(saved_scale[1])

    def _placed(self, value: Tensor, parameter: Tensor) -> Tensor:
        """Return a saved tensor where the optimiser wants it.

        One of the weights' shape gets their memory format: the fused kernels pair elements by
        address. A counter of steps is on the device only for those kernels.
        """
        if value.shape == parameter.shape:
            return torch.empty_like(parameter, dtype=value.dtype).copy_(value)
        return value.to(parameter.device if self._fused else "cpu", copy=True)

    def _step_unless(self, skip: Tensor) -> None:
        if not self._fused:
            if not skip:
                self.optimizer.step()
            return
        # The contract between torch's GradScaler and fused optimisers: decided on the device.
        self.optimizer.found_inf = self._skip  # type: ignore[attr-defined]
        try:
            self.optimizer.step()
        finally:
            del self.optimizer.found_inf  # type: ignore[attr-defined]


def _is_broken(value: Tensor) -> Tensor:
    """Return whether a number is infinite or not a number; fewer launches than `isfinite`."""
    return value.sub(value).ne(0)
