"""Convolutions with as many groups as the channels allow: DWConv, its transpose, MixConv2d."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from models.activation import Activation
from models.blocks import Conv, batch_norm


class DWConv(Conv):
    """A convolution unit in gcd(c1, c2) groups: with c1 = c2, one filter per channel."""

    def __init__(
        self,
        c1: int,
        c2: int,
        k: int = 1,
        s: int = 1,
        d: int = 1,
        activation: bool | Activation = True,
    ) -> None:
        super().__init__(c1, c2, k, s, g=math.gcd(c1, c2), d=d, activation=activation)


class DWConvTranspose2d(nn.ConvTranspose2d):
    """A plain transposed convolution in gcd(c1, c2) groups, with bias; `p2` pads the output."""

    def __init__(self, c1: int, c2: int, k: int = 1, s: int = 1, p: int = 0, p2: int = 0) -> None:
        super().__init__(c1, c2, k, s, p, p2, groups=math.gcd(c1, c2))


class MixConv2d(nn.Module):
    """Convolutions with kernels of several sizes side by side (Tan and Le, arXiv:1907.09595).

    Each gives a share of the channels: an equal one, or one that makes their weights equal in
    number. Normalised together, then SiLU whatever the network's activation is, as in v7.0.
    """

    def __init__(
        self, c1: int, c2: int, k: Sequence[int] = (1, 3), s: int = 1, equal_ch: bool = True
    ) -> None:
        super().__init__()
        channels = _equal_shares(c2, len(k)) if equal_ch else _shares_of_equal_weight(c2, k)
        self.m = nn.ModuleList(
            nn.Conv2d(c1, c, size, s, size // 2, groups=math.gcd(c1, c), bias=False)
            for size, c in zip(k, channels, strict=True)
        )
        self.bn = batch_norm(c2)
        self.act = nn.SiLU()

    def forward(self, x: Tensor) -> Tensor:
        """[b, c1, h, w] to [b, c2, h / s, w / s]."""
        y: Tensor = self.act(self.bn(torch.cat([convolution(x) for convolution in self.m], 1)))
        return y


def _equal_shares(total: int, parts: int) -> list[int]:
    """`total` in `parts` nearly equal numbers: points 0 to `total` - 1 on a line cut evenly."""
    cuts = [(total - 1) * part // parts for part in range(parts + 1)]
    shares = [after - before for before, after in itertools.pairwise(cuts)]
    return [shares[0] + 1, *shares[1:]]


def _shares_of_equal_weight(total: int, kernels: Sequence[int]) -> list[int]:
    """Channels for which every kernel has about the same number of weights; the last fills up."""
    inverse = [1 / kernel**2 for kernel in kernels]
    shares = [round(total * part / sum(inverse)) for part in inverse[:-1]]
    return [*shares, total - sum(shares)]
