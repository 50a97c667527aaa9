"""Weights prepared for inference: for oneDNN kernels on a CPU, in the number format on a GPU.

oneDNN computes a convolution from weights in a blocked layout that depends on the processor and on
the shape of the input. torch reorders them at every call; here they are kept. The activation is
applied in the convolution's own pass, before its result is rounded. The two operators are not part
of torch's documented interface: `onednn_supports` tries them first.
"""

from __future__ import annotations

import copy
from functools import cache

import torch
from torch import Tensor, nn

from models.blocks import Activation, Conv
from models.detector import Detector

MAX_CACHED_BYTES = 256 << 20
"""Blocked weights that a network keeps in all; those of further shapes are made at every call."""
FUSED_ACTIVATIONS = {"SiLU": "swish", "ReLU": "relu"}
"""Activations that the convolution applies itself, and their names in oneDNN."""
TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 0.05}
"""Largest error of the trial, whose numbers are of the order of one."""


def to_onednn(network: Detector, dtype: torch.dtype) -> Detector:
    """Return a twin of a fused network whose Conv units compute in `dtype` with oneDNN kernels.

    It shares all weights with `network`, which must not change once the twin has been called. Call
    it under `torch.inference_mode`, for bfloat16 under autocast too. Where the device, this torch
    or this processor cannot do it, `network` itself is returned.
    """
    if network.anchors.device.type != "cpu" or not onednn_supports(dtype):
        return network
    shared = {id(one): one for one in (*network.parameters(), *network.buffers())}
    twin = copy.deepcopy(network, shared)
    units = {name: unit for name, unit in twin.named_modules() if isinstance(unit, Conv)}
    weights = sum(unit.conv.weight.numel() for unit in units.values()) * dtype.itemsize
    max_shapes = max(MAX_CACHED_BYTES // max(weights, 1), 1)
    for name, unit in units.items():
        parent, _, child = name.rpartition(".")
        setattr(twin.get_submodule(parent), child, OneDnnConv(unit, dtype, max_shapes))
    return twin


def with_cast_weights(network: Detector, dtype: torch.dtype) -> Detector:
    """Return a twin of a fused network whose Conv units keep their weights in `dtype`.

    It shares all other tensors with `network`. Call it under autocast, which would otherwise cast
    constant weights at every call.
    """
    shared = {id(one): one for one in (*network.parameters(), *network.buffers())}
    twin = copy.deepcopy(network, shared)
    for convolution in (unit.conv for unit in twin.units):
        for name, one in list(convolution.named_parameters()):
            setattr(convolution, name, nn.Parameter(one.to(dtype), requires_grad=False))
    return twin


class OneDnnConv(nn.Module):
    """A fused Conv that caches its blocked weights for up to `max_shapes` input shapes."""

    def __init__(self, unit: Conv, dtype: torch.dtype, max_shapes: int) -> None:
        super().__init__()
        self.conv = unit.conv
        self.dtype = dtype
        self.max_shapes = max_shapes
        name = unit.activation.name if unit.activation else ""
        self.fused = FUSED_ACTIVATIONS.get(name, "none")
        self.after: Activation | None = None if name in FUSED_ACTIVATIONS else unit.activation
        self._blocked: dict[torch.Size, tuple[Tensor, Tensor | None]] = {}

    def forward(self, x: Tensor) -> Tensor:
        """Map [b, c1, h, w] to [b, c2, h / s, w / s] in `dtype`."""
        conv = self.conv
        x = x.to(self.dtype)
        weight, bias = self._weights_for(x.shape)
        geometry = (conv.padding, conv.stride, conv.dilation, conv.groups)
        y: Tensor = torch.ops.mkldnn._convolution_pointwise(
            x, weight, bias, *geometry, self.fused, [], ""
        )
        return y if self.after is None else self.after(y)

    def _weights_for(self, shape: torch.Size) -> tuple[Tensor, Tensor | None]:
        # Two threads may both reorder for a shape; either result is right.
        known = self._blocked.get(shape)
        if known is not None:
            return known
        conv = self.conv
        bias = None if conv.bias is None else conv.bias.to(self.dtype)
        weight = conv.weight.to(self.dtype)
        if len(self._blocked) >= self.max_shapes:
            return weight, bias
        weight = torch.ops.mkldnn._reorder_convolution_weight(
            weight, conv.padding, conv.stride, conv.dilation, conv.groups, list(shape)
        )
        return self._blocked.setdefault(shape, (weight, bias))


@cache
def onednn_supports(dtype: torch.dtype) -> bool:
    """Whether the operators exist here and compute what torch's own convolution does."""
    if dtype not in TOLERANCE or not torch.backends.mkldnn.is_available():
        return False
    unit = Conv(16, 16, 3).eval().requires_grad_(False)
    unit.fuse()
    images = torch.linspace(-2, 2, 2 * 16 * 8 * 8).view(2, 16, 8, 8)
    images = images.contiguous(memory_format=torch.channels_last)
    with torch.inference_mode():
        expected = unit(images)
        try:
            found = OneDnnConv(unit, dtype, 1)(images)
        # Missing operators and dtypes that a processor lacks are errors of several kinds.
        except Exception:
            return False
    error = (found.float() - expected).abs().max()
    return found.shape == expected.shape and bool(error < TOLERANCE[dtype])
