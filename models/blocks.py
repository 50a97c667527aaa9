"""The bricks of the network: convolution unit, bottleneck, C3, SPPF and the joints between them.

Every brick takes and gives [b, c, h, w] maps, and works in whichever memory format they come in.
Child names (`cv1`, `m`, `bn`, ...) are those of YOLOv5 v7.0: they are the keys of people's weights.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.activation import SILU, Activation
from models.joining import join

# Not in any state dict, so the weights of v7.0 are only right with these two.
BATCH_NORM_EPS = 1e-3
BATCH_NORM_MOMENTUM = 0.03


def batch_norm(channels: int) -> nn.BatchNorm2d:
    """A batch normalisation with the constants of v7.0."""
    return nn.BatchNorm2d(channels, eps=BATCH_NORM_EPS, momentum=BATCH_NORM_MOMENTUM)


class Conv(nn.Module):
    """Convolution without bias, batch normalisation, activation; padded to keep the size.

    `activation` True stands for the network's own, which is SiLU until `follow` says otherwise;
    False for none. At stride 1 the size stays, unless `p` pads by another amount.
    """

    def __init__(
        self,
        c1: int,
        c2: int,
        k: int | tuple[int, int] = 1,
        s: int | tuple[int, int] = 1,
        p: int | tuple[int, int] | None = None,
        g: int = 1,
        d: int = 1,
        activation: bool | Activation = True,
    ) -> None:
        super().__init__()
        padding = _same_padding(k, d) if p is None else p
        self.conv = nn.Conv2d(c1, c2, k, s, padding, groups=g, dilation=d, bias=False)
        self.bn: nn.BatchNorm2d | None = batch_norm(c2)
        self.follows = activation is True
        own = activation if isinstance(activation, Activation) else None
        self._use(SILU if self.follows else own)

    def _use(self, activation: Activation | None) -> None:
        self.activation = activation
        # SiLU has a path of its own, for it is what nearly every network uses.
        self.silu = activation == SILU

    def follow(self, activation: Activation) -> None:
        """Use the network's activation, unless this unit was built with another one or none."""
        if self.follows:
            self._use(activation)

    def forward(self, x: Tensor) -> Tensor:
        """[b, c1, h, w] to [b, c2, h / s, w / s]."""
        x = self.conv(x)
        if self.bn is not None:
            x = self.bn(x)
        if self.silu:
            # Under autograd an in-place SiLU costs a copy of its input; without it, it saves one.
            return functional.silu(x, inplace=not x.requires_grad)
        return x if self.activation is None else self.activation(x)

    def fold(self) -> None:
        """Fold the normalisation's running statistics into the convolution, which gains a bias."""
        if self.bn is None:
            return
        conv, bn = self.conv, self.bn
        assert bn.running_mean is not None
        assert bn.running_var is not None
        with torch.no_grad():
            scale = bn.weight / torch.sqrt(bn.running_var + bn.eps)
            conv.weight.mul_(scale.view(-1, 1, 1, 1))
            conv.bias = nn.Parameter(
                bn.bias - bn.running_mean * scale, requires_grad=conv.weight.requires_grad
            )
        self.bn = None


class Bottleneck(nn.Module):
    """A 1x1 and a 3x3 convolution, plus the input where it is wanted and the shape allows."""

    def __init__(self, c1: int, c2: int, shortcut: bool = True, g: int = 1, e: float = 0.5) -> None:
        super().__init__()
        hidden = int(c2 * e)
        self.cv1 = Conv(c1, hidden, 1, 1)
        self.cv2 = Conv(hidden, c2, 3, 1, g=g)
        self.residual = shortcut and c1 == c2

    def forward(self, x: Tensor) -> Tensor:
        """[b, c1, h, w] to [b, c2, h, w]."""
        y: Tensor = self.cv2(self.cv1(x))
        if not self.residual:
            return y
        return x + y if y.requires_grad else y.add_(x)


class C3(nn.Module):
    """Two 1x1 branches, one through `n` bottlenecks, joined by a third 1x1 convolution."""

    def __init__(
        self, c1: int, c2: int, n: int = 1, shortcut: bool = True, g: int = 1, e: float = 0.5
    ) -> None:
        super().__init__()
        hidden = int(c2 * e)
        self.cv1 = Conv(c1, hidden, 1, 1)
        self.cv2 = Conv(c1, hidden, 1, 1)
        self.cv3 = Conv(2 * hidden, c2, 1)
        self.m: nn.Module = nn.Sequential(
            *(Bottleneck(hidden, hidden, shortcut, g, e=1.0) for _ in range(n))
        )

    def forward(self, x: Tensor) -> Tensor:
        """[b, c1, h, w] to [b, c2, h, w]."""
        y: Tensor = self.cv3(join((self.m(self.cv1(x)), self.cv2(x))))
        return y


class SPPF(nn.Module):
    """Spatial pyramid pooling: one max-pool applied three times, equal to windows k, 2k-1, 3k-2."""

    def __init__(self, c1: int, c2: int, k: int = 5) -> None:
        super().__init__()
        hidden = c1 // 2
        self.cv1 = Conv(c1, hidden, 1, 1)
        self.cv2 = Conv(hidden * 4, c2, 1, 1)
        self.m = nn.MaxPool2d(kernel_size=k, stride=1, padding=k // 2)

    def forward(self, x: Tensor) -> Tensor:
        """[b, c1, h, w] to [b, c2, h, w]."""
        x = self.cv1(x)
        once = self.m(x)
        twice = self.m(once)
        y: Tensor = self.cv2(join((x, once, twice, self.m(twice))))
        return y


class Concat(nn.Module):
    """Maps of the same size joined along the channels, in the order given."""

    def __init__(self, axis: int = 1) -> None:
        super().__init__()
        self.axis = axis

    def forward(self, maps: list[Tensor]) -> Tensor:
        """Maps [b, ci, h, w] to one [b, sum of ci, h, w]."""
        return join(maps) if self.axis == 1 else torch.cat(maps, self.axis)


class Sum(nn.Module):
    """Maps of the same shape added up; `weight` learns how much each but the first counts."""

    def __init__(self, n: int, weight: bool = False) -> None:
        super().__init__()
        self.w = nn.Parameter(-torch.arange(1.0, n) / 2) if weight else None

    def forward(self, maps: list[Tensor]) -> Tensor:
        """Maps [b, c, h, w], as many as `n`, to one [b, c, h, w]; a weight lies between 0 and 2."""
        total, *others = maps
        shares = [None] * len(others) if self.w is None else (2 * self.w.sigmoid()).unbind()
        for other, share in zip(others, shares, strict=True):
            total = total + (other if share is None else other * share)
        return total


def _same_padding(k: int | tuple[int, int], d: int) -> int | tuple[int, int]:
    """Padding on either side that keeps the size at stride 1, for odd kernels."""
    if isinstance(k, int):
        return (d * (k - 1) + 1) // 2
    return (d * (k[0] - 1) + 1) // 2, (d * (k[1] - 1) + 1) // 2
