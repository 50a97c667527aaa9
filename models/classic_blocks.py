"""Bricks of earlier YOLOv5 versions and of side models: SPP, BottleneckCSP, CrossConv, C3x, C3SPP.

Child names are those of YOLOv5 v7.0: they are the keys of people's weights.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from models.blocks import C3, Bottleneck, Conv, batch_norm
from models.joining import join


class SPP(nn.Module):
    """Spatial pyramid pooling (He et al., arXiv:1406.4729): max-pools of several sizes, joined."""

    def __init__(self, c1: int, c2: int, k: Sequence[int] = (5, 9, 13)) -> None:
        super().__init__()
        hidden = c1 // 2
        self.cv1 = Conv(c1, hidden, 1, 1)
        self.cv2 = Conv(hidden * (len(k) + 1), c2, 1, 1)
        self.m = nn.ModuleList(nn.MaxPool2d(size, 1, size // 2) for size in k)

    def forward(self, x: Tensor) -> Tensor:
        """[b, c1, h, w] to [b, c2, h, w]."""
        x = self.cv1(x)
        y: Tensor = self.cv2(join((x, *(pool(x) for pool in self.m))))
        return y


class BottleneckCSP(nn.Module):
    """What C3 was before v4.0 (Wang et al., CSPNet, arXiv:1911.11929): plain convolutions at the
    joint, normalised together, then SiLU whatever the network's activation is, as in v7.0.
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
        self.act = nn.SiLU()
        self.m = nn.Sequential(*(Bottleneck(hidden, hidden, shortcut, g, e=1.0) for _ in range(n)))

    def forward(self, x: Tensor) -> Tensor:
        """[b, c1, h, w] to [b, c2, h, w]."""
        joined = join((self.cv3(self.m(self.cv1(x))), self.cv2(x)))
        y: Tensor = self.cv4(self.act(self.bn(joined)))
        return y


class CrossConv(nn.Module):
    """A 1xk and a kx1 convolution in place of a kxk one, plus the input where it is wanted."""

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
        """[b, c1, h, w] to [b, c2, h / s, w / s]."""
        y: Tensor = self.cv2(self.cv1(x))
        return x + y if self.residual else y


class C3x(C3):
    """C3 with cross convolutions in place of the bottlenecks."""

    def __init__(
        self, c1: int, c2: int, n: int = 1, shortcut: bool = True, g: int = 1, e: float = 0.5
    ) -> None:
        super().__init__(c1, c2, 0, shortcut, g, e)
        hidden = int(c2 * e)
        self.m = nn.Sequential(
            *(CrossConv(hidden, hidden, 3, 1, g, 1.0, shortcut) for _ in range(n))
        )


class C3SPP(C3):
    """C3 with spatial pyramid pooling in place of the bottlenecks."""

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
        hidden = int(c2 * e)
        self.m = SPP(hidden, hidden, k)
