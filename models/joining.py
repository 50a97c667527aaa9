"""Maps joined along the channels, with a way back that leaves every gradient dense."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


def join(maps: Sequence[Tensor]) -> Tensor:
    """Maps [b, ci, h, w] of the same size to one [b, sum of ci, h, w], in the order given."""
    if _pays(maps):
        joined: Tensor = _Join.apply(*maps)
        return joined
    return torch.cat(tuple(maps), 1)


def _pays(maps: Sequence[Tensor]) -> bool:
    """Whether the gradients should be dense: where bfloat16 maps learn on a CPU.

    In float32 a dense gradient would round a few numbers otherwise, and gains little.
    """
    return any(one.requires_grad for one in maps) and all(
        one.dtype == torch.bfloat16 and one.device.type == "cpu" for one in maps
    )


class _Join(torch.autograd.Function):
    """`torch.cat` of channels-last maps whose gradients are copies instead of views.

    A view has the channels of all maps between its pixels. With fewer than 64 of its own the
    element-wise kernels of a CPU leave their vector paths: SiLU's gradient takes 6 times as long,
    a sum 10 times, upsampling's gradient 12 times. The copy costs a tenth of what it saves.
    """

    @staticmethod
    def forward(ctx: Any, *maps: Tensor) -> Tensor:
        """The maps along the channels."""
        ctx.channels = [one.shape[1] for one in maps]
        return torch.cat(maps, 1)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """The gradient of every map that wants one, channels last."""
        pieces = gradients[0].split(ctx.channels, 1)
        return tuple(
            piece.contiguous(memory_format=torch.channels_last) if wanted else None
            for piece, wanted in zip(pieces, ctx.needs_input_grad, strict=True)
        )
