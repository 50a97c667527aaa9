"""Attention over the cells of a map: transformer layers without normalisation, and C3TR.

Child names are those of YOLOv5 v7.0. Legend: n = h * w tokens, b images, c channels.
"""

from __future__ import annotations

from torch import Tensor, nn

from models.blocks import C3, Conv

HEADS = 4
"""Attention heads of C3TR (v7.0)."""


class TransformerLayer(nn.Module):
    """Multi-head attention and two linear maps, each added to what it was given."""

    def __init__(self, c: int, num_heads: int) -> None:
        super().__init__()
        self.q = nn.Linear(c, c, bias=False)
        self.k = nn.Linear(c, c, bias=False)
        self.v = nn.Linear(c, c, bias=False)
        self.ma = nn.MultiheadAttention(embed_dim=c, num_heads=num_heads)
        self.fc1 = nn.Linear(c, c, bias=False)
        self.fc2 = nn.Linear(c, c, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        """[n, b, c] to [n, b, c]."""
        attended, _ = self.ma(self.q(tokens), self.k(tokens), self.v(tokens), need_weights=False)
        tokens = attended + tokens
        y: Tensor = self.fc2(self.fc1(tokens)) + tokens
        return y


class TransformerBlock(nn.Module):
    """Every cell of a map looks at every other one; a linear map of the cells stands for places."""

    def __init__(self, c1: int, c2: int, num_heads: int, num_layers: int) -> None:
        super().__init__()
        self.conv = Conv(c1, c2) if c1 != c2 else None
        self.linear = nn.Linear(c2, c2)
        self.tr = nn.Sequential(*(TransformerLayer(c2, num_heads) for _ in range(num_layers)))

    def forward(self, x: Tensor) -> Tensor:
        """[b, c1, h, w] to [b, c2, h, w]; time and memory grow with (h * w)^2."""
        if self.conv is not None:
            x = self.conv(x)
        tokens = x.flatten(2).permute(2, 0, 1)
        tokens = self.tr(tokens + self.linear(tokens))
        return tokens.permute(1, 2, 0).reshape(x.shape)


class C3TR(C3):
    """C3 with a transformer of `n` layers in place of the bottlenecks."""

    def __init__(
        self, c1: int, c2: int, n: int = 1, shortcut: bool = True, g: int = 1, e: float = 0.5
    ) -> None:
        super().__init__(c1, c2, 0, shortcut, g, e)
        hidden = int(c2 * e)
        self.m = TransformerBlock(hidden, hidden, HEADS, n)
