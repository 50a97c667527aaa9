"""Ghost blocks: half of the channels computed, the other half derived from them cheaply.

After Han et al., GhostNet (arXiv:1911.11907). Child names are those of YOLOv5 v7.0.
"""

from __future__ import annotations

from torch import Tensor, nn

from models.activation import Activation
from models.blocks import C3, Conv
from models.depthwise import DWConv
from models.joining import join


class GhostConv(nn.Module):
    """A convolution unit for half of the channels; a 5x5 filter on each of them gives the rest."""

    def __init__(
        self,
        c1: int,
        c2: int,
        k: int = 1,
        s: int = 1,
        g: int = 1,
        activation: bool | Activation = True,
    ) -> None:
        super().__init__()
        half = c2 // 2
        self.cv1 = Conv(c1, half, k, s, g=g, activation=activation)
        self.cv2 = Conv(half, half, 5, 1, g=half, activation=activation)

    def forward(self, x: Tensor) -> Tensor:
        """[b, c1, h, w] to [b, c2, h / s, w / s]."""
        computed = self.cv1(x)
        return join((computed, self.cv2(computed)))


class GhostBottleneck(nn.Module):
    """Two ghost convolutions, with a depth-wise one between them at stride 2, plus a shortcut."""

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
        """[b, c1, h, w] to [b, c2, h / s, w / s]; at stride 1 c1 and c2 are equal."""
        y: Tensor = self.conv(x) + self.shortcut(x)
        return y


class C3Ghost(C3):
    """C3 with ghost bottlenecks; they have no use for `shortcut` and `g`."""

    def __init__(
        self, c1: int, c2: int, n: int = 1, shortcut: bool = True, g: int = 1, e: float = 0.5
    ) -> None:
        super().__init__(c1, c2, 0, shortcut, g, e)
        hidden = int(c2 * e)
        self.m = nn.Sequential(*(GhostBottleneck(hidden, hidden) for _ in range(n)))
