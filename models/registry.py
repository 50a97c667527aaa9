"""Registry of blocks: the class, the channel rule and the pickled names of each, one row a block.

To add a block, write its class and add its row to `BLOCKS`. The channel rule turns a row of a model
file into constructor arguments, channels and reduction (input pixels per cell of the output).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from torch import nn

from models import extra_blocks as extra
from models.blocks import C3, SPPF, Activation, Bottleneck, Concat, Conv, Sum, batch_norm

Argument = int | float | bool | str | None | tuple[int | float, ...] | Activation


@dataclass(frozen=True)
class Inputs:
    """Inputs of a block: channels and reduction per source, repeats and width multiple.

    `repeats` has the depth multiple applied; the channels that the row asks for have not yet been
    multiplied by `width`.
    """

    channels: tuple[int, ...]
    reductions: tuple[float, ...]
    repeats: int
    width: float


@dataclass(frozen=True)
class Resolved:
    """Constructor arguments of a block, channels and reduction of one copy, number of copies."""

    arguments: tuple[Argument, ...]
    channels: int
    reduction: float
    repeats: int


Rule = Callable[[Inputs, Sequence[Argument]], Resolved]


def scaled_channels(channels: int, width: float) -> int:
    """Return channels times the width multiple, rounded up to a multiple of 8."""
    return math.ceil(channels * width / 8) * 8


def scaled_repeats(number: int, depth: float) -> int:
    """Return the repeat count: `number` times the depth multiple, at least once."""
    return max(round(number * depth), 1) if number > 1 else number


def positive(value: object, name: str) -> float:
    """Return a number above zero; raise ValueError for anything else."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not value > 0:
        raise ValueError(f"{name} must be a number above zero, not {value!r}")
    return value


def whole(value: object, name: str) -> int:
    """Return a whole number above zero; raise ValueError for anything else."""
    number = positive(value, name)
    if number % 1:
        raise ValueError(f"{name} must be a whole number, not {value!r}")
    return int(number)


def _whole(arguments: Sequence[Argument], position: int, default: Argument = None) -> int:
    value = arguments[position] if position < len(arguments) else default
    return whole(value, f"argument {position + 1}")


def _scaled(
    inputs: Inputs, arguments: Sequence[Argument], *, stride: int | None = None, gain: int = 1
) -> Resolved:
    """Block (c1, c2, ...) with c2 scaled; the argument at `stride`, and `gain`, reduce the size."""
    c2 = scaled_channels(_whole(arguments, 0), inputs.width)
    step = 1 if stride is None else _whole(arguments, stride, 1)
    reduction = inputs.reductions[0] * step * gain
    return Resolved((inputs.channels[0], c2, *arguments[1:]), c2, reduction, inputs.repeats)


def _repeated_inside(inputs: Inputs, arguments: Sequence[Argument]) -> Resolved:
    """Block (c1, c2, n, ...) that repeats its inner blocks."""
    made = _scaled(inputs, arguments)
    c1, c2, *rest = made.arguments
    return Resolved((c1, c2, inputs.repeats, *rest), made.channels, made.reduction, 1)


def _transposed(inputs: Inputs, arguments: Sequence[Argument], *, kernel: int | None) -> Resolved:
    """Transposed convolution (c1, c2, k, s, ...): its stride enlarges the map."""
    made = _scaled(inputs, arguments)
    _whole(arguments, 1, kernel)
    step = _whole(arguments, 2, 1)
    return Resolved(made.arguments, made.channels, made.reduction / step, made.repeats)


def _resolved(
    inputs: Inputs,
    arguments: Sequence[Argument],
    *,
    channels: int | None = None,
    reduction: float | None = None,
) -> Resolved:
    """Block with the arguments as they stand; channels and size unchanged unless given."""
    return Resolved(
        tuple(arguments),
        inputs.channels[0] if channels is None else channels,
        inputs.reductions[0] if reduction is None else reduction,
        inputs.repeats,
    )


def _transformer(inputs: Inputs, arguments: Sequence[Argument]) -> Resolved:
    """Block (c1, c2, heads, layers) with none of them scaled, as in v7.0."""
    if list(arguments[:2]) != [inputs.channels[0]] * 2:
        raise ValueError(f"its first two arguments must be the {inputs.channels[0]} input channels")
    return _resolved(inputs, arguments)


def _normalised(inputs: Inputs, arguments: Sequence[Argument]) -> Resolved:
    return _resolved(inputs, inputs.channels[:1])


def _check_same_size(inputs: Inputs) -> None:
    if len(set(inputs.reductions)) > 1:
        raise ValueError(f"its inputs have different strides {inputs.reductions}")


def _concat(inputs: Inputs, arguments: Sequence[Argument]) -> Resolved:
    _check_same_size(inputs)
    if _whole(arguments, 0, 1) != 1:
        raise ValueError("it can only join channels (axis 1)")
    return _resolved(inputs, (), channels=sum(inputs.channels))


def _sum(inputs: Inputs, arguments: Sequence[Argument]) -> Resolved:
    _check_same_size(inputs)
    count = len(inputs.channels)
    if len(set(inputs.channels)) > 1:
        raise ValueError(f"its inputs have different channels {inputs.channels}")
    if _whole(arguments, 0, count) != count:
        raise ValueError(f"its argument says {arguments[0]} inputs, but it has {count}")
    return _resolved(inputs, (count, *arguments[1:]))


def _contract(inputs: Inputs, arguments: Sequence[Argument]) -> Resolved:
    gain = _whole(arguments, 0, 2)
    channels, reduction = inputs.channels[0] * gain**2, inputs.reductions[0] * gain
    return _resolved(inputs, (gain,), channels=channels, reduction=reduction)


def _expand(inputs: Inputs, arguments: Sequence[Argument]) -> Resolved:
    gain = _whole(arguments, 0, 2)
    if inputs.channels[0] % gain**2:
        raise ValueError(f"{inputs.channels[0]} channels cannot become {gain}x{gain} squares")
    channels, reduction = inputs.channels[0] // gain**2, inputs.reductions[0] / gain
    return _resolved(inputs, (gain,), channels=channels, reduction=reduction)


def _upsample(inputs: Inputs, arguments: Sequence[Argument]) -> Resolved:
    factor = positive(arguments[1] if len(arguments) > 1 else None, "argument 2")
    return _resolved(inputs, arguments, reduction=inputs.reductions[0] / factor)


def _pool(inputs: Inputs, arguments: Sequence[Argument]) -> Resolved:
    """Pooling (k, s, ...); the stride is the kernel size by default."""
    step = _whole(arguments, 1, _whole(arguments, 0))
    return _resolved(inputs, arguments, reduction=inputs.reductions[0] * step)


_same_size: Rule = _scaled
_strided: Rule = partial(_scaled, stride=2)

COMMON, EXPERIMENTAL = "models.common", "models.experimental"


@dataclass(frozen=True)
class Block:
    """A block that a model file may name.

    `build` makes the module from the constructor arguments that `rule` gives; `modules` are those
    under which official checkpoints pickle the class; `takes_list` marks blocks that are called
    with a list of maps instead of one.
    """

    build: Callable[..., nn.Module]
    rule: Rule
    modules: tuple[str, ...] = (COMMON,)
    takes_list: bool = False


# v5.0 had the ghost and cross blocks in `models.experimental`.
BLOCKS: Mapping[str, Block] = {
    "Conv": Block(Conv, _strided),
    "DWConv": Block(extra.DWConv, _strided),
    "GhostConv": Block(extra.GhostConv, _strided, (COMMON, EXPERIMENTAL)),
    "CrossConv": Block(extra.CrossConv, _strided, (COMMON, EXPERIMENTAL)),
    "MixConv2d": Block(extra.MixConv2d, _strided, (EXPERIMENTAL,)),
    "Focus": Block(extra.Focus, partial(_scaled, stride=2, gain=2)),
    "Bottleneck": Block(Bottleneck, _same_size),
    "GhostBottleneck": Block(extra.GhostBottleneck, _strided, (COMMON, EXPERIMENTAL)),
    "BottleneckCSP": Block(extra.BottleneckCSP, _repeated_inside),
    "C3": Block(C3, _repeated_inside),
    "C3Ghost": Block(extra.C3Ghost, _repeated_inside),
    "C3SPP": Block(extra.C3SPP, _same_size),
    "C3TR": Block(extra.C3TR, _repeated_inside),
    "C3x": Block(extra.C3x, _repeated_inside),
    "SPP": Block(extra.SPP, _same_size),
    "SPPF": Block(SPPF, _same_size),
    "TransformerBlock": Block(extra.TransformerBlock, _transformer),
    "Concat": Block(Concat, _concat, takes_list=True),
    "Sum": Block(Sum, _sum, (EXPERIMENTAL,), takes_list=True),
    "Contract": Block(extra.Contract, _contract),
    "Expand": Block(extra.Expand, _expand),
    "DWConvTranspose2d": Block(extra.DWConvTranspose2d, partial(_transposed, kernel=1)),
    "nn.ConvTranspose2d": Block(
        nn.ConvTranspose2d, partial(_transposed, kernel=None), ("torch.nn.modules.conv",)
    ),
    "nn.Upsample": Block(nn.Upsample, _upsample, ("torch.nn.modules.upsampling",)),
    "nn.MaxPool2d": Block(nn.MaxPool2d, _pool, ("torch.nn.modules.pooling",)),
    "nn.ZeroPad2d": Block(nn.ZeroPad2d, _resolved, ("torch.nn.modules.padding",)),
    "nn.BatchNorm2d": Block(batch_norm, _normalised, ("torch.nn.modules.batchnorm",)),
    "nn.Identity": Block(nn.Identity, _resolved, ("torch.nn.modules.linear",)),
}


def pickled_names() -> Iterator[str]:
    """Yield the dotted names under which checkpoints may hold a block."""
    for name, block in BLOCKS.items():
        for module in block.modules:
            yield f"{module}.{name.removeprefix('nn.')}"
