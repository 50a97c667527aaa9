"""What each block of a model file makes of its inputs: channels, size, constructor arguments."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from models.activation import Activation

Argument = int | float | bool | str | None | tuple[int | float, ...] | Activation


@dataclass(frozen=True)
class Inputs:
    """What a row's block is given: channels and reduction of every source.

    `reductions` are how many pixels of the network's input one cell spans; `repeats` and `width`
    have the file's multiples applied and not applied.
    """

    channels: tuple[int, ...]
    reductions: tuple[float, ...]
    repeats: int
    width: float


@dataclass(frozen=True)
class Resolved:
    """A row's constructor arguments, the channels and reduction that one copy gives, and copies."""

    arguments: tuple[Argument, ...]
    channels: int
    reduction: float
    repeats: int


Rule = Callable[[Inputs, Sequence[Argument]], Resolved]


def scaled_channels(channels: int, width: float) -> int:
    """Channels times the width multiple, rounded up to a multiple of 8."""
    return math.ceil(channels * width / 8) * 8


def scaled_repeats(number: int, depth: float) -> int:
    """How often a block repeats: `number` times the depth multiple, at least once."""
    return max(round(number * depth), 1) if number > 1 else number


def _number(arguments: Sequence[Argument], position: int, default: float | None = None) -> float:
    value = arguments[position] if position < len(arguments) else default
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not value > 0:
        raise ValueError(f"argument {position + 1} must be a number above zero, not {value!r}")
    return value


def _whole(arguments: Sequence[Argument], position: int, default: int | None = None) -> int:
    value = _number(arguments, position, default)
    if value != int(value):
        raise ValueError(f"argument {position + 1} must be a whole number, not {value!r}")
    return int(value)


def _scaled(
    inputs: Inputs, arguments: Sequence[Argument], *, stride: int | None = None, gain: int = 1
) -> Resolved:
    """A block (c1, c2, ...) with c2 scaled; argument `stride` divides the size, `gain` too."""
    given = scaled_channels(_whole(arguments, 0), inputs.width)
    step = 1 if stride is None else _whole(arguments, stride, default=1)
    reduction = inputs.reductions[0] * step * gain
    return Resolved((inputs.channels[0], given, *arguments[1:]), given, reduction, inputs.repeats)


def _repeated_inside(inputs: Inputs, arguments: Sequence[Argument]) -> Resolved:
    """A block (c1, c2, n, ...) that repeats its own parts."""
    made = _scaled(inputs, arguments)
    taken, given, *rest = made.arguments
    return Resolved((taken, given, inputs.repeats, *rest), made.channels, made.reduction, 1)


def _transposed(inputs: Inputs, arguments: Sequence[Argument], *, kernel: int | None) -> Resolved:
    """A transposed convolution (c1, c2, k, s, ...): its stride makes the map larger."""
    made = _scaled(inputs, arguments)
    _whole(arguments, 1, default=kernel)
    step = _whole(arguments, 2, default=1)
    return Resolved(made.arguments, made.channels, made.reduction / step, made.repeats)


def _transformer(inputs: Inputs, arguments: Sequence[Argument]) -> Resolved:
    """The arguments (c1, c2, heads, layers) as they stand: v7.0 scales none of them."""
    if list(arguments[:2]) != [inputs.channels[0]] * 2:
        raise ValueError(f"its first two arguments must be the {inputs.channels[0]} input channels")
    return _unchanged(inputs, arguments)


def _unchanged(inputs: Inputs, arguments: Sequence[Argument]) -> Resolved:
    return Resolved(tuple(arguments), inputs.channels[0], inputs.reductions[0], inputs.repeats)


def _normalised(inputs: Inputs, arguments: Sequence[Argument]) -> Resolved:
    return Resolved((inputs.channels[0],), inputs.channels[0], inputs.reductions[0], inputs.repeats)


def _of_one_size(inputs: Inputs) -> None:
    if len(set(inputs.reductions)) > 1:
        raise ValueError(f"its inputs have different strides {inputs.reductions}")


def _concat(inputs: Inputs, arguments: Sequence[Argument]) -> Resolved:
    _of_one_size(inputs)
    if _number(arguments, 0, default=1) != 1:
        raise ValueError("it can only join channels (axis 1)")
    return Resolved(tuple(arguments), sum(inputs.channels), inputs.reductions[0], inputs.repeats)


def _sum(inputs: Inputs, arguments: Sequence[Argument]) -> Resolved:
    _of_one_size(inputs)
    if len(set(inputs.channels)) > 1:
        raise ValueError(f"its inputs have different channels {inputs.channels}")
    if _whole(arguments, 0, default=len(inputs.channels)) != len(inputs.channels):
        raise ValueError(f"it is told of {arguments[0]} inputs and given {len(inputs.channels)}")
    return Resolved(
        (len(inputs.channels), *arguments[1:]),
        inputs.channels[0],
        inputs.reductions[0],
        inputs.repeats,
    )


def _contract(inputs: Inputs, arguments: Sequence[Argument]) -> Resolved:
    gain = _whole(arguments, 0, default=2)
    return Resolved(
        (gain,), inputs.channels[0] * gain**2, inputs.reductions[0] * gain, inputs.repeats
    )


def _expand(inputs: Inputs, arguments: Sequence[Argument]) -> Resolved:
    gain = _whole(arguments, 0, default=2)
    if inputs.channels[0] % gain**2:
        raise ValueError(f"{inputs.channels[0]} channels cannot become {gain}x{gain} squares")
    return Resolved(
        (gain,), inputs.channels[0] // gain**2, inputs.reductions[0] / gain, inputs.repeats
    )


def _upsample(inputs: Inputs, arguments: Sequence[Argument]) -> Resolved:
    reduction = inputs.reductions[0] / _number(arguments, 1)
    return Resolved(tuple(arguments), inputs.channels[0], reduction, inputs.repeats)


def _pool(inputs: Inputs, arguments: Sequence[Argument]) -> Resolved:
    """A pool (k, s, ...); without a stride the windows lie side by side."""
    reduction = inputs.reductions[0] * _whole(arguments, 1, default=_whole(arguments, 0))
    return Resolved(tuple(arguments), inputs.channels[0], reduction, inputs.repeats)


_same_size: Rule = _scaled
_strided: Rule = partial(_scaled, stride=2)

# One row per block that a file may name; `block_table.BLOCKS` has the module of the same name.
RULES: Mapping[str, Rule] = {
    "Conv": _strided,
    "DWConv": _strided,
    "GhostConv": _strided,
    "CrossConv": _strided,
    "MixConv2d": _strided,
    "Focus": partial(_scaled, stride=2, gain=2),
    "Bottleneck": _same_size,
    "GhostBottleneck": _strided,
    "BottleneckCSP": _repeated_inside,
    "C3": _repeated_inside,
    "C3Ghost": _repeated_inside,
    "C3SPP": _same_size,
    "C3TR": _repeated_inside,
    "C3x": _repeated_inside,
    "SPP": _same_size,
    "SPPF": _same_size,
    "TransformerBlock": _transformer,
    "Concat": _concat,
    "Sum": _sum,
    "Contract": _contract,
    "Expand": _expand,
    "DWConvTranspose2d": partial(_transposed, kernel=1),
    "nn.ConvTranspose2d": partial(_transposed, kernel=None),
    "nn.Upsample": _upsample,
    "nn.MaxPool2d": _pool,
    "nn.ZeroPad2d": _unchanged,
    "nn.BatchNorm2d": _normalised,
    "nn.Identity": _unchanged,
}
