"""A fused network for a CPU: every convolution and its SiLU in one pass, weights laid out once.

oneDNN computes a convolution from weights in an order of its own, which depends on the processor
and on the shape of the input. torch sorts them into it at every call; here the sorted weights of a
shape are kept. The activation is taken in the convolution's own pass, before its result is rounded.
The two operators are those that torch's compiler uses, and are not in torch's documented interface:
`packed` tries them first.
"""

from __future__ import annotations

import copy
from functools import cache

import torch
from torch import Tensor, nn

from models.activation import Activation
from models.blocks import Conv
from models.detector import Detector

KEPT_BYTES = 256 << 20
"""Sorted weights that a network keeps in all; the shapes beyond are sorted at every call."""
IN_ONE_PASS = {"SiLU": "swish", "ReLU": "relu"}
"""Activations that the convolution applies itself, and what oneDNN calls them."""
CLOSE = {torch.float32: 1e-4, torch.bfloat16: 0.05}
"""How far the trial may be off; its numbers are of the order of one."""


def packed(network: Detector, dtype: torch.dtype) -> Detector:
    """A twin of a fused network on a CPU whose convolution units compute in `dtype`.

    It shares all weights with `network`, which must not change once the twin has been called, and
    learns nothing: call it under `torch.inference_mode`, for bfloat16 under autocast too. Where
    this torch or processor cannot do it the answer is `network` itself.
    """
    if network.anchors.device.type != "cpu" or not onednn_supports(dtype):
        return network
    shared = {id(one): one for one in (*network.parameters(), *network.buffers())}
    twin = copy.deepcopy(network, shared)
    units = [module for module in twin.modules() if isinstance(module, Conv)]
    weights = sum(unit.conv.weight.numel() for unit in units) * dtype.itemsize
    shapes = max(KEPT_BYTES // max(weights, 1), 1)
    _replace_units(twin, dtype, shapes)
    return twin


def _replace_units(module: nn.Module, dtype: torch.dtype, shapes: int) -> None:
    for name, child in module.named_children():
        if isinstance(child, Conv):
            setattr(module, name, OneDnnConv(child, dtype, shapes))
        else:
            _replace_units(child, dtype, shapes)


class OneDnnConv(nn.Module):
    """A folded convolution unit, with its weights kept sorted for up to `shapes` input shapes."""

    def __init__(self, unit: Conv, dtype: torch.dtype, shapes: int) -> None:
        super().__init__()
        self.conv = unit.conv
        self.dtype = dtype
        self.shapes = shapes
        name = unit.activation.name if unit.activation else ""
        self.inside = IN_ONE_PASS.get(name, "none")
        self.after: Activation | None = None if name in IN_ONE_PASS else unit.activation
        self._sorted: dict[torch.Size, tuple[Tensor, Tensor | None]] = {}

    def forward(self, x: Tensor) -> Tensor:
        """[b, c1, h, w] to [b, c2, h / s, w / s] in the unit's number format."""
        conv = self.conv
        x = x.to(self.dtype)
        weight, bias = self._weights_for(x.shape)
        y: Tensor = torch.ops.mkldnn._convolution_pointwise(
            x,
            weight,
            bias,
            conv.padding,
            conv.stride,
            conv.dilation,
            conv.groups,
            self.inside,
            [],
            "",
        )
        return y if self.after is None else self.after(y)

    def _weights_for(self, shape: torch.Size) -> tuple[Tensor, Tensor | None]:
        # Two threads may both sort for a shape; either result is right.
        known = self._sorted.get(shape)
        if known is not None:
            return known
        conv = self.conv
        bias = None if conv.bias is None else conv.bias.to(self.dtype)
        weight = conv.weight.to(self.dtype)
        if len(self._sorted) >= self.shapes:
            return weight, bias
        weight = torch.ops.mkldnn._reorder_convolution_weight(
            weight, conv.padding, conv.stride, conv.dilation, conv.groups, list(shape)
        )
        return self._sorted.setdefault(shape, (weight, bias))


@cache
def onednn_supports(dtype: torch.dtype) -> bool:
    """Whether the operators are there and compute on this processor what torch's own do."""
    if dtype not in CLOSE or not torch.backends.mkldnn.is_available():
        return False
    unit = Conv(16, 16, 3).eval().requires_grad_(False)
    unit.fold()
    images = torch.linspace(-2, 2, 2 * 16 * 8 * 8).view(2, 16, 8, 8)
    images = images.contiguous(memory_format=torch.channels_last)
    with torch.inference_mode():
        expected = unit(images)
        try:
            found = OneDnnConv(unit, dtype, 1)(images)
        # Missing operators and formats a processor lacks are errors of several kinds.
        except Exception:
            return False
    return found.shape == expected.shape and bool(
        (found.float() - expected).abs().max() < CLOSE[dtype]
    )
