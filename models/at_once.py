"""What a training pass does for all Conv units at once: one launch on a GPU, not one per unit."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from models.blocks import Conv

UNITS_PER_CAST = 16
"""A few casts a pass: their gradients are complete, for other ranks, before the pass ends."""


def count_batch(units: Sequence[Conv]) -> None:
    """Raise the batch counters of the normalisations that are in training mode."""
    counters = [unit.counter for unit in units]
    counting = [counter for counter in counters if counter is not None]
    if counting:
        torch._foreach_add_(counting, 1)


@contextmanager
def cast_weights(units: Sequence[Conv], device: torch.device) -> Iterator[None]:
    """Lend trained weights in autocast's number format, as it would cast them one by one.

    For passes on a GPU that record gradients; otherwise this does nothing. A compiler joins casts
    by itself.
    """
    if torch.compiler.is_compiling() or not (
        device.type == "cuda" and torch.is_autocast_enabled("cuda") and torch.is_grad_enabled()
    ):
        yield
        return
    dtype = torch.get_autocast_dtype("cuda")
    trained = [unit for unit in units if unit.conv.weight.requires_grad]
    try:
        for first in range(0, len(trained), UNITS_PER_CAST):
            some = trained[first : first + UNITS_PER_CAST]
            weights = _CastTogether.apply(dtype, *(unit.conv.weight for unit in some))
            for unit, weight in zip(some, weights, strict=True):
                unit.cast_weight = weight
        yield
    finally:
        for unit in trained:
            unit.cast_weight = None


class _CastTogether(torch.autograd.Function):
    """Cast tensors to another number format, and their gradients back."""

    @staticmethod
    def forward(ctx: Any, dtype: torch.dtype, *tensors: Tensor) -> tuple[Tensor, ...]:
        """Return the tensors as `dtype`."""
        ctx.dtype = tensors[0].dtype
        return _cast(tensors, dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Return gradients in the number format of the tensors."""
        return None, *_cast(gradients, ctx.dtype)


def _cast(tensors: tuple[Tensor, ...], dtype: torch.dtype) -> tuple[Tensor, ...]:
    cast = tuple(torch.empty_like(one, dtype=dtype) for one in tensors)
    torch._foreach_copy_(cast, tensors)
    return cast
