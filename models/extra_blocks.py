"""Blocks of other model files: pooling, CSP, ghost, depth-wise, attention and pixel shuffles.

Child names are those of YOLOv5 v7.0: they are the keys of its state dicts.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.blocks import C3, ActivationArg, Bottleneck, Conv, batch_norm, concat_channels


class SPP(nn.Module):
    """Spatial pyramid pooling (He et al., arXiv:1406.4729): max-pools of several sizes, joined."""

    def __init__(self, c1: int, c2: int, k: Sequence[int] = (5, 9, 13)) -> None:
        super().__init__()
        hidden = c1 // 2
        self.cv1 = Conv(c1, hidden, 1, 1)
        self.cv2 = Conv(hidden * (len(k) + 1), c2, 1, 1)
        self.m = nn.ModuleList(nn.MaxPool2d(size, 1, size // 2) for size in k)

    def forward(self, x: Tensor) -> Tensor:
        """Map [b, c1, h, w] to [b, c2, h, w]."""
        x = self.cv1(x)
        y: Tensor = self.cv2(concat_channels((x, *(pool(x) for pool in self.m))))
        return y


class C3SPP(C3):
    """C3 with spatial pyramid pooling as its inner block."""

    def __init__(
        self,
        c1: int,
        c2: int,
        k: Sequence[int] = (5, 9, 13),
        n: int = 1,
        shortcut: bool = True,
        g: int = 1,
        e: float = 0.5,
    ) -> None:
        super().__init__(c1, c2, 0, shortcut, g, e)
        hidden = self.cv1.conv.out_channels
        self.m = SPP(hidden, hidden, k)


class BottleneckCSP(nn.Module):
    """Cross-stage partial block before v4.0 (Wang et al., arXiv:1911.11929).

    The branches end in plain convolutions and are normalised together, followed by SiLU whatever
    the network's activation is, as in v7.0, or by the definition's `joint_activation`.
    """

    def __init__(
        self, c1: int, c2: int, n: int = 1, shortcut: bool = True, g: int = 1, e: float = 0.5
    ) -> None:
        super().__init__()
        hidden = int(c2 * e)
        self.cv1 = Conv(c1, hidden, 1, 1)
        self.cv2 = nn.Conv2d(c1, hidden, 1, 1, bias=False)
        self.cv3 = nn.Conv2d(hidden, hidden, 1, 1, bias=False)
        self.cv4 = Conv(2 * hidden, c2, 1, 1)
        self.bn = batch_norm(2 * hidden)
        self.act: nn.Module = nn.SiLU()
        self.m = nn.Sequential(*(Bottleneck(hidden, hidden, shortcut, g, e=1.0) for _ in range(n)))

    def forward(self, x: Tensor) -> Tensor:
        """Map [b, c1, h, w] to [b, c2, h, w]."""
        joined = concat_channels((self.cv3(self.m(self.cv1(x))), self.cv2(x)))
        y: Tensor = self.cv4(self.act(self.bn(joined)))
        return y


class CrossConv(nn.Module):
    """A 1xk and a kx1 Conv in place of a kxk one; residual if `shortcut` and c1 = c2."""

    def __init__(
        self,
        c1: int,
        c2: int,
        k: int = 3,
        s: int = 1,
        g: int = 1,
        e: float = 1.0,
        shortcut: bool = False,
    ) -> None:
        super().__init__()
        hidden = int(c2 * e)
        self.cv1 = Conv(c1, hidden, (1, k), (1, s))
        self.cv2 = Conv(hidden, c2, (k, 1), (s, 1), g=g)
        self.residual = shortcut and c1 == c2

    def forward(self, x: Tensor) -> Tensor:
        """Map [b, c1, h, w] to [b, c2, h / s, w / s]."""
        y: Tensor = self.cv2(self.cv1(x))
        return x + y if self.residual else y


class C3x(C3):
    """C3 with cross convolutions as inner blocks."""

    def _inner(self, channels: int, n: int, shortcut: bool, g: int) -> nn.Module:
        return nn.Sequential(
            *(CrossConv(channels, channels, 3, 1, g, 1.0, shortcut) for _ in range(n))
        )


class DWConv(Conv):
    """A Conv in gcd(c1, c2) groups: with c1 = c2, one filter per channel."""

    def __init__(
        self, c1: int, c2: int, k: int = 1, s: int = 1, d: int = 1, activation: ActivationArg = True
    ) -> None:
        super().__init__(c1, c2, k, s, g=math.gcd(c1, c2), d=d, activation=activation)


class DWConvTranspose2d(nn.ConvTranspose2d):
    """A transposed convolution in gcd(c1, c2) groups, with bias; `p2` pads the output."""

    def __init__(self, c1: int, c2: int, k: int = 1, s: int = 1, p: int = 0, p2: int = 0) -> None:
        super().__init__(c1, c2, k, s, p, p2, groups=math.gcd(c1, c2))


class MixConv2d(nn.Module):
    """Convolutions with kernels of several sizes in parallel (Tan and Le, arXiv:1907.09595).

    Their shares of the channels, or else their weights, are equal in number. Normalised together,
    then an activation as in `BottleneckCSP`.
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
        self.act: nn.Module = nn.SiLU()

    def forward(self, x: Tensor) -> Tensor:
        """Map [b, c1, h, w] to [b, c2, h / s, w / s]."""
        y: Tensor = self.act(self.bn(torch.cat([convolution(x) for convolution in self.m], 1)))
        return y


def _equal_shares(total: int, parts: int) -> list[int]:
    """Split `total` into `parts` nearly equal numbers: points 0 to `total` - 1 cut evenly."""
    cuts = [(total - 1) * part // parts for part in range(parts + 1)]
    shares = [after - before for before, after in itertools.pairwise(cuts)]
    return [shares[0] + 1, *shares[1:]]


def _shares_of_equal_weight(total: int, kernels: Sequence[int]) -> list[int]:
    """Return channels that give every kernel about as many weights; the last takes the rest."""
    inverse = [1 / kernel**2 for kernel in kernels]
    shares = [round(total * part / sum(inverse)) for part in inverse[:-1]]
    return [*shares, total - sum(shares)]


class GhostConv(nn.Module):
    """A Conv for half of the channels; a 5x5 filter on each of them gives the other half.

    After Han et al., GhostNet (arXiv:1911.11907), like the two blocks below.
    """

    def __init__(
        self, c1: int, c2: int, k: int = 1, s: int = 1, g: int = 1, activation: ActivationArg = True
    ) -> None:
        super().__init__()
        half = c2 // 2
        self.cv1 = Conv(c1, half, k, s, g=g, activation=activation)
        self.cv2 = Conv(half, half, 5, 1, g=half, activation=activation)

    def forward(self, x: Tensor) -> Tensor:
        """Map [b, c1, h, w] to [b, c2, h / s, w / s]."""
        primary = self.cv1(x)
        return concat_channels((primary, self.cv2(primary)))


class GhostBottleneck(nn.Module):
    """Two ghost convolutions, a depth-wise one between them at stride 2, and a shortcut."""

    def __init__(self, c1: int, c2: int, k: int = 3, s: int = 1) -> None:
        super().__init__()
        if s != 2 and (s != 1 or c1 != c2):
            raise ValueError(f"stride 2, or 1 with equal channels; not {s}, {c1} and {c2}")
        half = c2 // 2
        self.conv = nn.Sequential(
            GhostConv(c1, half, 1, 1),
            DWConv(half, half, k, s, activation=False) if s == 2 else nn.Identity(),
            GhostConv(half, c2, 1, 1, activation=False),
        )
        self.shortcut: nn.Module = nn.Identity()
        if s == 2:
            self.shortcut = nn.Sequential(
                DWConv(c1, c1, k, s, activation=False), Conv(c1, c2, 1, 1, activation=False)
            )

    def forward(self, x: Tensor) -> Tensor:
        """Map [b, c1, h, w] to [b, c2, h / s, w / s]; at stride 1 c1 and c2 are equal."""
        y: Tensor = self.conv(x) + self.shortcut(x)
        return y


class C3Ghost(C3):
    """C3 with ghost bottlenecks as inner blocks; `shortcut` and `g` have no effect."""

    def _inner(self, channels: int, n: int, shortcut: bool, g: int) -> nn.Module:
        return nn.Sequential(*(GhostBottleneck(channels, channels) for _ in range(n)))


class TransformerLayer(nn.Module):
    """Scaled dot-product attention (arXiv:1706.03762) and a linear pair, each with a residual.

    Every projection has two factors, as v7.0's weights have: `q`, `k`, `v`, then a third of
    `ma.in_proj_weight`. `ma` is there for its parameters; its own `forward` is not used.
    """

    def __init__(self, c: int, num_heads: int) -> None:
        super().__init__()
        self.q, self.k, self.v = (nn.Linear(c, c, bias=False) for _ in range(3))
        self.ma = nn.MultiheadAttention(c, num_heads)
        self.fc1, self.fc2 = (nn.Linear(c, c, bias=False) for _ in range(2))

    def attend(self, tokens: Tensor) -> Tensor:
        """Return softmax(Q K^T / sqrt(d)) V per head and its output map: [n, b, c] to [n, b, c]."""
        count, images, _ = tokens.shape
        query, key, value = (
            functional.linear(first(tokens), weight, bias)
            .reshape(count, images, self.ma.num_heads, -1)
            .permute(1, 2, 0, 3)  # [b, heads, n, d]
            for first, weight, bias in zip(
                (self.q, self.k, self.v),
                self.ma.in_proj_weight.chunk(3),
                self.ma.in_proj_bias.chunk(3),
                strict=True,
            )
        )
        mixed = functional.scaled_dot_product_attention(query, key, value)
        mixed = mixed.permute(2, 0, 1, 3).reshape(tokens.shape)
        return functional.linear(mixed, self.ma.out_proj.weight, self.ma.out_proj.bias)

    def forward(self, tokens: Tensor) -> Tensor:
        """Map n tokens of b images, [n, b, c], to [n, b, c]."""
        attended = self.attend(tokens) + tokens
        y: Tensor = self.fc2(self.fc1(attended)) + attended
        return y


class TransformerBlock(nn.Module):
    """Self-attention between the cells of a map; time and memory grow with (h * w)^2.

    A learned linear map of the cells takes the place of a positional encoding (v7.0). A 1x1 Conv
    comes first where c1 and c2 differ.
    """

    def __init__(self, c1: int, c2: int, num_heads: int, num_layers: int) -> None:
        super().__init__()
        self.conv = Conv(c1, c2) if c1 != c2 else None
        self.linear = nn.Linear(c2, c2)
        self.tr = nn.Sequential()
        for _ in range(num_layers):
            self.tr.append(TransformerLayer(c2, num_heads))

    def forward(self, x: Tensor) -> Tensor:
        """Map [b, c1, h, w] to [b, c2, h, w]."""
        maps = x if self.conv is None else self.conv(x)
        cells = maps.permute(2, 3, 0, 1)
        tokens = cells.flatten(0, 1)
        attended: Tensor = self.tr(tokens + self.linear(tokens))
        return attended.reshape(cells.shape).permute(2, 3, 0, 1)


class C3TR(C3):
    """C3 with a transformer of 4 heads and `n` layers inside; `shortcut` and `g` have no effect."""

    def _inner(self, channels: int, n: int, shortcut: bool, g: int) -> nn.Module:
        return TransformerBlock(channels, channels, 4, n)


class Focus(nn.Module):
    """Stem of YOLOv5 up to v5.0: space to depth by 2, then a Conv."""

    def __init__(
        self,
        c1: int,
        c2: int,
        k: int = 1,
        s: int = 1,
        p: int | None = None,
        g: int = 1,
        activation: ActivationArg = True,
    ) -> None:
        super().__init__()
        self.conv = Conv(4 * c1, c2, k, s, p, g, activation=activation)

    def forward(self, x: Tensor) -> Tensor:
        """Map [b, c1, h, w], h and w even, to [b, c2, h / 2s, w / 2s]: squares column by column."""
        pixels = [x[..., row::2, column::2] for column in range(2) for row in range(2)]
        y: Tensor = self.conv(torch.cat(pixels, 1))
        return y


class Contract(nn.Module):
    """Space to depth by `gain`."""

    def __init__(self, gain: int = 2) -> None:
        super().__init__()
        self.gain = gain

    def forward(self, x: Tensor) -> Tensor:
        """Map [b, c, h, w] to [b, gain^2 * c, h / gain, w / gain], channels in (row, column, c)."""
        steps = range(self.gain)
        squares = [x[..., r :: self.gain, c :: self.gain] for r in steps for c in steps]
        return torch.cat(squares, 1)


class Expand(nn.Module):
    """Depth to space by `gain`: the inverse of `Contract`."""

    def __init__(self, gain: int = 2) -> None:
        super().__init__()
        self.gain = gain

    def forward(self, x: Tensor) -> Tensor:
        """Map [b, gain^2 * c, h, w], channels (row, column, c), to [b, c, gain * h, gain * w]."""
        batch, channels, height, width = x.shape
        places = self.gain**2
        # torch's pixel_shuffle takes the channels as (c, row, column).
        turned = x.reshape(batch, places, channels // places, height, width).transpose(1, 2)
        return functional.pixel_shuffle(turned.reshape(x.shape), self.gain)
