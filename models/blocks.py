"""Building blocks of YOLOv5: activation, Conv, Bottleneck, C3, SPPF, Concat and Sum.

Blocks take and return [b, c, h, w] maps in whichever memory format they come in. Child names
(`cv1`, `m`, `bn`, ...) are those of YOLOv5 v7.0: they are the keys of its state dicts.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

BATCH_NORM_EPS = 1e-3
BATCH_NORM_MOMENTUM = 0.03
"""v7.0's constants; a state dict does not hold them."""

_FORM = re.compile(r"(?:torch\.)?(?:nn\.)?(\w+)(?:\(([^()]*)\))?")
_INPLACE = re.compile(r"inplace\s*=\s*(?:True|False)")
# Functions of (x, inplace, parameter).
_ACTIVATIONS: Mapping[str, Callable[[Tensor, bool, float], Tensor]] = {
    "SiLU": lambda x, inplace, _: functional.silu(x, inplace),
    "ReLU": lambda x, inplace, _: functional.relu(x, inplace),
    "ReLU6": lambda x, inplace, _: functional.relu6(x, inplace),
    "LeakyReLU": lambda x, inplace, slope: functional.leaky_relu(x, slope, inplace),
    "ELU": lambda x, inplace, alpha: functional.elu(x, alpha, inplace),
    "GELU": lambda x, inplace, _: functional.gelu(x),
    "Hardswish": lambda x, inplace, _: functional.hardswish(x, inplace),
    "Mish": lambda x, inplace, _: functional.mish(x, inplace),
    "Sigmoid": lambda x, inplace, _: x.sigmoid(),
    "Tanh": lambda x, inplace, _: x.tanh(),
    "Identity": lambda x, inplace, _: x,
}
# Name and default of the parameter, where there is one.
_PARAMETERS = {"LeakyReLU": ("negative_slope", 0.01), "ELU": ("alpha", 1.0)}


@dataclass(frozen=True)
class Activation:
    """An activation by its name in torch.nn, with the parameter that some of them take."""

    name: str
    parameter: float = 0.0

    def __call__(self, x: Tensor) -> Tensor:
        """Apply the function element by element, in place where no gradient is wanted."""
        return _ACTIVATIONS[self.name](x, not x.requires_grad, self.parameter)

    def __str__(self) -> str:
        """Return the form of model files, such as nn.LeakyReLU(0.1)."""
        return (
            f"nn.{self.name}({self.parameter!r})"
            if self.name in _PARAMETERS
            else f"nn.{self.name}()"
        )

    def module(self) -> nn.Module:
        """Return the function as a layer of torch.nn."""
        layer: nn.Module = getattr(nn, self.name)(*[self.parameter] * (self.name in _PARAMETERS))
        return layer

    @property
    def parameter_name(self) -> str:
        """Name of the parameter in torch.nn, '' without one."""
        return _PARAMETERS.get(self.name, ("",))[0]


ActivationArg = bool | Activation
"""True for the network's own activation, SiLU until `set_activation`; False for none."""
SILU = Activation("SiLU")
"""Activation of networks whose model file names none."""


def parse_activation(text: object) -> Activation:
    """Parse 'nn.LeakyReLU(0.1)', 'nn.ReLU(inplace=True)' or 'Mish' without evaluating it.

    `inplace` changes no number and is ignored. Raises ValueError that lists what is known.
    """
    form = _FORM.fullmatch(text.strip()) if isinstance(text, str) else None
    if form is None or form[1] not in _ACTIVATIONS:
        raise ValueError(f"activation {text!r} is not one of {', '.join(_ACTIVATIONS)}")
    takes, default = _PARAMETERS.get(form[1], ("", 0.0))
    given = [part.strip() for part in (form[2] or "").split(",") if part.strip()]
    given = [part for part in given if not _INPLACE.fullmatch(part)]
    if not given:
        return Activation(form[1], default)
    if not takes or len(given) > 1:
        raise ValueError(f"activation {text!r} has arguments that {form[1]} does not take")
    name, _, value = given[0].rpartition("=")
    try:
        if name.strip() not in {"", takes} or not math.isfinite(float(value)):
            raise ValueError
        return Activation(form[1], float(value))
    except ValueError:
        raise ValueError(f"activation {text!r}: {takes} must be a number") from None


def batch_norm(channels: int) -> nn.BatchNorm2d:
    """Return a batch normalisation with v7.0's constants."""
    return nn.BatchNorm2d(channels, eps=BATCH_NORM_EPS, momentum=BATCH_NORM_MOMENTUM)


def concat_channels(maps: Sequence[Tensor]) -> Tensor:
    """Concatenate maps [b, ci, h, w] to [b, sum of ci, h, w]."""
    # Dense gradients pay where bfloat16 trains on a CPU. In float32 they would round a few numbers
    # otherwise, and gain little.
    if any(one.requires_grad for one in maps) and all(
        one.dtype == torch.bfloat16 and one.device.type == "cpu" for one in maps
    ):
        joined: Tensor = _DenseGradConcat.apply(*maps)
        return joined
    return torch.cat(tuple(maps), 1)


class _DenseGradConcat(torch.autograd.Function):
    """`torch.cat` of channels-last maps whose gradients are copies instead of views.

    A view has the channels of all maps between its pixels. With fewer than 64 of its own the
    element-wise kernels of a CPU leave their vector paths: SiLU's gradient takes 6 times as long,
    a sum 10 times, upsampling's gradient 12 times. The copy costs a tenth of what it saves.
    """

    @staticmethod
    def forward(ctx: Any, *maps: Tensor) -> Tensor:
        """Concatenate along the channels."""
        ctx.channels = [one.shape[1] for one in maps]
        return torch.cat(maps, 1)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradient of every map that needs one, channels last."""
        pieces = gradients[0].split(ctx.channels, 1)
        return tuple(
            piece.contiguous(memory_format=torch.channels_last) if wanted else None
            for piece, wanted in zip(pieces, ctx.needs_input_grad, strict=True)
        )


class Conv(nn.Module):
    """Convolution without bias, batch normalisation, activation; same size at stride 1.

    An explicit padding `p` overrides that of the kernel.
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
        activation: ActivationArg = True,
    ) -> None:
        super().__init__()
        padding = _same_padding(k, d) if p is None else p
        self.conv = nn.Conv2d(c1, c2, k, s, padding, groups=g, dilation=d, bias=False)
        self.bn: nn.BatchNorm2d | None = batch_norm(c2)
        self.default_activation = activation is True
        own = activation if isinstance(activation, Activation) else None
        self._use(SILU if self.default_activation else own)
        self.cast_weight: Tensor | None = None
        """Taken for the weight while a pass lends it (`models/at_once.py`)."""

    def _use(self, activation: Activation | None) -> None:
        self.activation = activation
        # SiLU has a path of its own, for it is what nearly every network uses.
        self._silu = activation == SILU

    def set_activation(self, activation: Activation) -> None:
        """Use the network's activation, unless this unit was built with another one or none."""
        if self.default_activation:
            self._use(activation)

    def forward(self, x: Tensor) -> Tensor:
        """Map [b, c1, h, w] to [b, c2, h / s, w / s]."""
        conv, bn, cast = self.conv, self.bn, self.cast_weight
        if cast is None:
            x = conv(x)
        else:
            x = functional.conv2d(
                x, cast, conv.bias, conv.stride, conv.padding, conv.dilation, conv.groups
            )
        if self.counter is not None:
            assert bn is not None
            statistics = bn.running_mean, bn.running_var, bn.weight, bn.bias
            x = functional.batch_norm(x, *statistics, True, bn.momentum or 0.0, bn.eps)
        elif bn is not None:
            x = bn(x)
        if self._silu:
            # Under autograd an in-place SiLU costs a copy of its input; without it, it saves one.
            return functional.silu(x, inplace=not x.requires_grad)
        return x if self.activation is None else self.activation(x)

    @property
    def counter(self) -> Tensor | None:
        """The counter of batches, which the network raises in a training pass; else None."""
        bn = self.bn
        if type(bn) is not nn.BatchNorm2d or not bn.training or bn.momentum is None:
            return None
        return bn.num_batches_tracked

    def fuse(self) -> None:
        """Fold the running statistics of the normalisation into weight and bias, in place."""
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


def _same_padding(k: int | tuple[int, int], d: int) -> tuple[int, int]:
    """Return the padding on either side that keeps the size at stride 1, for odd kernels."""
    rows, columns = (k, k) if isinstance(k, int) else k
    return (d * (rows - 1) + 1) // 2, (d * (columns - 1) + 1) // 2


class Bottleneck(nn.Module):
    """A 1x1 and a 3x3 Conv, with a residual connection if `shortcut` and c1 = c2."""

    def __init__(self, c1: int, c2: int, shortcut: bool = True, g: int = 1, e: float = 0.5) -> None:
        super().__init__()
        hidden = int(c2 * e)
        self.cv1 = Conv(c1, hidden, 1, 1)
        self.cv2 = Conv(hidden, c2, 3, 1, g=g)
        self.residual = shortcut and c1 == c2

    def forward(self, x: Tensor) -> Tensor:
        """Map [b, c1, h, w] to [b, c2, h, w]."""
        y: Tensor = self.cv2(self.cv1(x))
        if not self.residual:
            return y
        return x + y if y.requires_grad else y.add_(x)


class C3(nn.Module):
    """Cross-stage partial block: two 1x1 branches, one through `n` inner blocks, and a 1x1 Conv.

    Subclasses choose the inner blocks (`_inner`).
    """

    def __init__(
        self, c1: int, c2: int, n: int = 1, shortcut: bool = True, g: int = 1, e: float = 0.5
    ) -> None:
        super().__init__()
        hidden = int(c2 * e)
        self.cv1 = Conv(c1, hidden, 1, 1)
        self.cv2 = Conv(c1, hidden, 1, 1)
        self.cv3 = Conv(2 * hidden, c2, 1)
        self.m = self._inner(hidden, n, shortcut, g)

    def _inner(self, channels: int, n: int, shortcut: bool, g: int) -> nn.Module:
        return nn.Sequential(
            *(Bottleneck(channels, channels, shortcut, g, e=1.0) for _ in range(n))
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map [b, c1, h, w] to [b, c2, h, w]."""
        y: Tensor = self.cv3(concat_channels((self.m(self.cv1(x)), self.cv2(x))))
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
        """Map [b, c1, h, w] to [b, c2, h, w]."""
        x = self.cv1(x)
        once = self.m(x)
        twice = self.m(once)
        y: Tensor = self.cv2(concat_channels((x, once, twice, self.m(twice))))
        return y


class Concat(nn.Module):
    """Concatenation of maps along the channels."""

    def forward(self, maps: list[Tensor]) -> Tensor:
        """Map [b, ci, h, w] each to one [b, sum of ci, h, w]."""
        return concat_channels(maps)


class Sum(nn.Module):
    """Sum of `n` maps; with `weight` each but the first has a learned factor 2 sigmoid(w)."""

    def __init__(self, n: int, weight: bool = False) -> None:
        super().__init__()
        self.w = nn.Parameter(-torch.arange(1.0, n) / 2) if weight else None

    def forward(self, maps: list[Tensor]) -> Tensor:
        """Map [b, c, h, w] each to one [b, c, h, w]."""
        total, *others = maps
        factors = [None] * len(others) if self.w is None else (2 * self.w.sigmoid()).unbind()
        for other, factor in zip(others, factors, strict=True):
            total = total + (other if factor is None else other * factor)
        return total
