"""Pixels moved into channels and back: Focus, Contract, Expand."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.activation import Activation
from models.blocks import Conv


class Focus(nn.Module):
    """The stem of YOLOv5 up to v5.0: each 2x2 square of pixels becomes one, then a convolution."""

    def __init__(
        self,
        c1: int,
        c2: int,
        k: int = 1,
        s: int = 1,
        p: int | None = None,
        g: int = 1,
        activation: bool | Activation = True,
    ) -> None:
        super().__init__()
        self.conv = Conv(4 * c1, c2, k, s, p, g, activation=activation)

    def forward(self, x: Tensor) -> Tensor:
        """[b, c1, h, w] to [b, c2, h / 2s, w / 2s]; h and w are even.

        Within a square the pixels follow each other down the columns.
        """
        pixels = [x[..., row::2, column::2] for column in range(2) for row in range(2)]
        y: Tensor = self.conv(torch.cat(pixels, 1))
        return y


class Contract(nn.Module):
    """Each square of `gain` x `gain` pixels becomes one pixel of that many times the channels."""

    def __init__(self, gain: int = 2) -> None:
        super().__init__()
        self.gain = gain

    def forward(self, x: Tensor) -> Tensor:
        """[b, c, h, w] to [b, gain^2 * c, h / gain, w / gain]; channels run (row, column, c)."""
        steps = range(self.gain)
        squares = [x[..., r :: self.gain, c :: self.gain] for r in steps for c in steps]
        return torch.cat(squares, 1)


class Expand(nn.Module):
    """The reverse of `Contract`: channels become squares of `gain` x `gain` pixels."""

    def __init__(self, gain: int = 2) -> None:
        super().__init__()
        self.gain = gain

    def forward(self, x: Tensor) -> Tensor:
        """[b, gain^2 * c, h, w] to [b, c, gain * h, gain * w]; channels run (row, column, c)."""
        batch, channels, height, width = x.shape
        places = self.gain**2
        # torch's own shuffle wants the channels as (c, row, column).
        turned = x.reshape(batch, places, channels // places, height, width).transpose(1, 2)
        return functional.pixel_shuffle(turned.reshape(x.shape), self.gain)
