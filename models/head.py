"""Detection head: feature maps to logits, and logits to boxes.

Legend: b images, l levels, a anchors per level, y x grid rows and columns, n = sum of a*y*x rows,
o = 5 + classes (tx, ty, tw, th, objectness, classes).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.amp import is_autocast_available
from torch.jit._trace import is_tracing

MAX_CACHED_GRIDS = 32
"""More shapes than a rectangular evaluation usually has."""


class Detect(nn.Module):
    """One 1x1 convolution per level; every anchor of every cell predicts one box.

    `anchors_px` [l][a * 2] are (w, h) pairs in pixels, `strides` [l] the pixels per cell,
    `channels` [l] those of the input maps. The buffer `anchors` [l, a, 2] is in grid cells.
    """

    anchors: Tensor
    stride: Tensor

    def __init__(
        self,
        nc: int,
        anchors_px: Sequence[Sequence[float]],
        strides: Sequence[float],
        channels: Sequence[int],
    ) -> None:
        super().__init__()
        self.nc = nc
        self.outputs = nc + 5
        self.anchors_per_level = len(anchors_px[0]) // 2
        stride = torch.tensor(strides, dtype=torch.float32)
        pixels = torch.tensor(anchors_px, dtype=torch.float32).view(len(strides), -1, 2)
        self.register_buffer("anchors", pixels / stride.view(-1, 1, 1))
        self.register_buffer("stride", stride, persistent=False)
        self.m = nn.ModuleList(
            nn.Conv2d(c, self.anchors_per_level * self.outputs, 1) for c in channels
        )
        self._grids: dict[tuple[object, ...], Tensor] = {}
        self.reset_biases(strides)

    def reset_biases(self, strides: Sequence[float]) -> None:
        """Add v7.0's prior logits to the convolutions' biases.

        They expect 8 objects per 640-pixel image, and class probabilities that sum to 0.6.
        """
        classes = math.log(0.6 / (self.nc - 0.99999))
        with torch.no_grad():
            for convolution, stride in zip(self.m, strides, strict=True):
                assert isinstance(convolution.bias, nn.Parameter)
                bias = convolution.bias.view(self.anchors_per_level, self.outputs)
                bias[:, 4] += math.log(8 / (640 / stride) ** 2)
                bias[:, 5:] += classes

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Map feature maps [b, c, y, x] per level to logits [b, a, y, x, o] per level.

        The results are views: in channels-last memory their last axis is contiguous. Under
        autocast these convolutions still compute in the weights' own dtype: they are cheap, and a
        logit of eight bits would move a large box by pixels.
        """
        device = maps[0].device.type
        if not (is_autocast_available(device) and torch.is_autocast_enabled(device)):
            return [self._unfold(conv(x)) for conv, x in zip(self.m, maps, strict=True)]
        with torch.autocast(device, enabled=False):
            return [
                self._unfold(conv(x.to(self.anchors.dtype)))
                for conv, x in zip(self.m, maps, strict=True)
            ]

    def _unfold(self, x: Tensor) -> Tensor:
        batch, _, rows, columns = x.shape
        shape = (batch, self.anchors_per_level, self.outputs, rows, columns)
        return x.view(shape).permute(0, 1, 3, 4, 2)

    def decode(self, raw: Sequence[Tensor]) -> Tensor:
        """Decode logits per level to [b, n, 5 + classes].

        A row is cx, cy, w, h in pixels of the network input, objectness and class probabilities
        (not multiplied), in the order level, anchor, grid row, grid column. With v = sigmoid(t):
        centre (2 v - 0.5 + cell) stride, size (2 v)^2 anchor (v7.0). Half precision is widened
        first, for a coordinate of bfloat16 has only eight bits.
        """
        # Indexed, for OpenCV 4 does not read the split that `unbind` would become in an ONNX file.
        levels = ((maps, self.anchors[i], self.stride[i]) for i, maps in enumerate(raw))
        return torch.cat([self._decode_level(*level) for level in levels], dim=1)

    def _decode_level(self, raw: Tensor, anchors: Tensor, stride: Tensor) -> Tensor:
        wide = raw if raw.dtype == torch.float64 else raw.float()
        scores = wide.sigmoid()
        anchors_px = (anchors.to(wide.dtype) * stride).view(1, -1, 1, 1, 2)
        centre = (scores[..., 0:2] * 2 + self._cell_grid(wide)) * stride
        size = (scores[..., 2:4] * 2).square() * anchors_px
        rows = torch.cat((centre, size, scores[..., 4:]), dim=-1)
        return rows.flatten(1, 3)

    def _cell_grid(self, raw: Tensor) -> Tensor:
        """Return cell corners minus one half [y, x, 2] in (x, y) order, cached per map size."""
        if torch.compiler.is_compiling() or is_tracing():
            exported = torch.onnx.is_in_onnx_export() or torch.compiler.is_compiling()
            return _cell_grid(raw) if exported else _cell_grid_like(raw)
        key = (*raw.shape[2:4], raw.device, raw.dtype)
        grid = self._grids.get(key)
        if grid is None:
            if len(self._grids) >= MAX_CACHED_GRIDS:
                self._grids.clear()
            # An inference tensor would be refused by a later call under autograd.
            with torch.inference_mode(False):
                grid = self._grids[key] = _cell_grid(raw)
        return grid


def _cell_grid(raw: Tensor) -> Tensor:
    # Whole numbers first: OpenCV 5 does not read a range of floats up to a whole number.
    rows, columns = (torch.arange(n, device=raw.device).to(raw.dtype) - 0.5 for n in raw.shape[2:4])
    down, across = torch.meshgrid(rows, columns, indexing="ij")
    return torch.stack((across, down), dim=-1)


def _cell_grid_like(raw: Tensor) -> Tensor:
    """Return `_cell_grid` without naming a device, which a TorchScript file would record."""
    ones = torch.ones_like(raw[0, 0, :, :, 0])
    return torch.stack((ones.cumsum(1), ones.cumsum(0)), dim=-1) - 1.5
