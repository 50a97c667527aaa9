"""Model configuration: a model YAML as a typed list of layers, with depth and width applied.

The grammar is that of YOLOv5 v7.0. Words in a file are looked up in closed tables, never evaluated.
"""

from __future__ import annotations

import copy
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from models.blocks import (
    BATCH_NORM_EPS,
    BATCH_NORM_MOMENTUM,
    SILU,
    Activation,
    parse_activation,
)
from models.registry import BLOCKS, Argument, Inputs, Resolved, positive, scaled_repeats, whole
from utils.errors import Code, TaskError, first_line
from utils.safe_yaml import load_yaml

IMAGE = -1
"""Source number of the network's input."""
CHANNELS = 3
"""Channels of the images."""

DEFINITIONS = (Path(__file__).parent, Path(__file__).parent / "hub")
FACTS = ("activation", "joint_activation", "batch_norm_eps", "batch_norm_momentum")
"""Keys that may be absent: v7.0's values hold then."""
KEYS = ("nc", "ch", "depth_multiple", "width_multiple", *FACTS, "anchors", "backbone", "head")
WORDS: Mapping[str, Argument] = {"None": None, "True": True, "False": False}


@dataclass(frozen=True)
class Layer:
    """One row of a model file, resolved.

    `sources` are absolute layer numbers (`IMAGE` for the input), `arguments` those of the block's
    constructor, channels included; `repeats` > 1 chains that many copies. `reduction` is the number
    of input pixels per cell of the output.
    """

    index: int
    sources: tuple[int, ...]
    repeats: int
    block: str
    arguments: tuple[Argument, ...]
    channels: int
    reduction: float


@dataclass(frozen=True)
class ModelConfig:
    """A network as data: layers and detection head.

    `anchors` are (w, h) pairs in pixels, one row per level in the order of `head_sources`.
    `activation` is that of every Conv without one of its own, `joint_activation` that of blocks
    which normalise several convolutions together. `definition` is the model file in
    plain types, with class count and activation in force.
    """

    nc: int
    channels: int
    anchors: tuple[tuple[float, ...], ...]
    layers: tuple[Layer, ...]
    head_sources: tuple[int, ...]
    activation: Activation
    joint_activation: Activation
    batch_norm: tuple[float, float]
    """Epsilon and momentum."""
    definition: dict[str, object] = field(repr=False, compare=False)

    @property
    def head_channels(self) -> tuple[int, ...]:
        """Channels of the maps that enter the head, in the order of `head_sources`."""
        return tuple(self.layers[source].channels for source in self.head_sources)

    @property
    def strides(self) -> tuple[float, ...]:
        """Pixels of the network input per cell, per level of the head."""
        return tuple(self.layers[source].reduction for source in self.head_sources)

    @property
    def input_multiple(self) -> int:
        """Pixels of which both sides of an input must be a multiple: a cell of the coarsest map."""
        return math.lcm(*(max(1, round(layer.reduction)) for layer in self.layers))

    @property
    def kept(self) -> frozenset[int]:
        """Layers whose output is needed later than by the next layer."""
        rows = ((layer.index, layer.sources) for layer in self.layers)
        later = {s for index, sources in rows for s in sources if s != index - 1}
        return frozenset(later | set(self.head_sources)) - {IMAGE}

    @property
    def backbone_end(self) -> int:
        """The last layer of the backbone: SPPF in YOLOv5."""
        return len(_rows(self.definition, "backbone")) - 1


def read_model_config(
    source: str | Path, nc: int | None = None, *, activation: str = ""
) -> ModelConfig:
    """Read a model file, or a stock one by name ('yolov5s', 'yolov5m6').

    `nc` replaces the file's class count, `activation` its activation. Raises `TaskError`
    (configuration) when there is no such file or it is not a model definition.
    """
    path = _find(str(source))
    try:
        mapping = load_yaml(path.read_text(encoding="ascii", errors="ignore"))
    except (OSError, yaml.YAMLError, ValueError) as error:
        raise _config_error(f"{path} cannot be read as YAML ({first_line(error)})") from error
    if not isinstance(mapping, Mapping):
        raise _config_error(f"{path} is not a mapping with backbone and head")
    return parse_model_config(mapping, nc, activation=activation, name=str(path))


def parse_model_config(
    mapping: Mapping[str, object],
    nc: int | None = None,
    *,
    activation: str = "",
    name: str = "the model definition",
) -> ModelConfig:
    """Parse a model definition in plain types; `mapping` is left as it is.

    Raises `TaskError` (configuration) that names `name`, the row and what is wrong with it.
    """
    definition = {key: copy.deepcopy(mapping[key]) for key in KEYS if key in mapping}
    if nc is not None:
        definition["nc"] = nc
    if activation:
        definition["activation"] = activation
    try:
        return _resolve(definition)
    except (KeyError, IndexError, TypeError, ValueError) as error:
        reason = f"{error} is missing" if isinstance(error, KeyError) else str(error)
        raise _config_error(f"{name}: {reason}") from error


def _resolve(definition: dict[str, object]) -> ModelConfig:
    classes = whole(definition["nc"], "nc")
    channels = whole(definition.get("ch", 3), "ch")
    depth, width = (positive(definition[key], key) for key in ("depth_multiple", "width_multiple"))
    if channels != CHANNELS:
        raise ValueError(f"ch is {channels}, but images are read as RGB, with {CHANNELS} channels")
    chosen, joint = (definition.get(key) for key in ("activation", "joint_activation"))
    norm = (
        positive(definition.get("batch_norm_eps", BATCH_NORM_EPS), "batch_norm_eps"),
        positive(definition.get("batch_norm_momentum", BATCH_NORM_MOMENTUM), "batch_norm_momentum"),
    )
    rows = [*_rows(definition, "backbone"), *_rows(definition, "head")]
    layers: list[Layer] = []
    for row in rows[:-1]:
        layers.append(_layer(row, layers, channels, depth, width))
    sources = _head_sources(rows[-1], len(layers))
    anchors = _anchors(definition["anchors"], len(sources))
    if len(sources) != len(anchors):
        raise ValueError(f"{len(anchors)} rows of anchors for {len(sources)} detection levels")
    return ModelConfig(
        nc=classes,
        channels=channels,
        anchors=anchors,
        layers=tuple(layers),
        head_sources=sources,
        activation=SILU if chosen is None else parse_activation(chosen),
        joint_activation=SILU if joint is None else parse_activation(joint),
        batch_norm=norm,
        definition=definition,
    )


def _layer(
    row: Sequence[object], before: Sequence[Layer], channels: int, depth: float, width: float
) -> Layer:
    index = len(before)
    origin, number, block, raw = row
    name = str(block).removeprefix("torch.")
    if name not in BLOCKS:
        known = ", ".join([*BLOCKS, "Detect"])
        raise ValueError(f"layer {index}: block {block!r} is not one of {known}")
    sources = _sources(origin, index)
    inputs = Inputs(
        tuple(channels if s == IMAGE else before[s].channels for s in sources),
        tuple(1.0 if s == IMAGE else before[s].reduction for s in sources),
        scaled_repeats(whole(number, f"layer {index}: the repeat count"), depth),
        width,
    )
    try:
        if not isinstance(raw, (list, tuple)):
            raise ValueError(f"arguments must be a list, not {raw!r}")
        made = BLOCKS[name].rule(inputs, [_argument(argument) for argument in raw])
        reduction = _chained(inputs, made)
    except ValueError as error:
        raise ValueError(f"layer {index} ({block}): {error}") from error
    return Layer(index, sources, made.repeats, name, made.arguments, made.channels, reduction)


def _chained(inputs: Inputs, made: Resolved) -> float:
    """Return the reduction after all copies in a chain."""
    if made.repeats > 1 and (made.channels,) != inputs.channels:
        raise ValueError(
            f"{made.repeats} copies in a chain give {made.channels} channels each and are given "
            f"{inputs.channels}"
        )
    before = inputs.reductions[0]
    return before * (made.reduction / before) ** made.repeats


def _head_sources(row: Sequence[object], index: int) -> tuple[int, ...]:
    if row[2] != "Detect":
        raise ValueError(f"the last layer must be Detect, not {row[2]!r}")
    sources = _sources(row[0], index)
    if IMAGE in sources:
        raise ValueError("Detect cannot read the image itself")
    if row[3] != ["nc", "anchors"]:
        raise ValueError(f"the arguments of Detect must be [nc, anchors], not {row[3]!r}")
    return sources


def _sources(origin: object, index: int) -> tuple[int, ...]:
    listed = list(origin) if isinstance(origin, (list, tuple)) else [origin]
    numbers = [s for s in listed if isinstance(s, int) and not isinstance(s, bool)]
    if not listed or len(numbers) < len(listed):
        raise ValueError(f"layer {index}: 'from' must be layer numbers, not {origin!r}")
    absolute = tuple(index + s if s < 0 else s for s in numbers)
    if any(not IMAGE <= s < index or (s == IMAGE and index > 0) for s in absolute):
        raise ValueError(f"layer {index}: 'from' {origin!r} does not name an earlier layer")
    return absolute


def _argument(raw: object) -> Argument:
    if isinstance(raw, (list, tuple)):
        numbers = [n for n in raw if isinstance(n, (int, float)) and not isinstance(n, bool)]
        if len(numbers) < len(raw):
            raise ValueError(f"argument {raw!r} is not a list of numbers")
        return tuple(numbers)
    if raw is None or isinstance(raw, (int, float)):
        return raw
    if not isinstance(raw, str):
        raise ValueError(f"argument {raw!r} is not a number or a word")
    if raw.startswith("nn.") and raw.endswith(")"):
        return parse_activation(raw)
    return WORDS.get(raw, raw)


def _anchors(value: object, levels: int) -> tuple[tuple[float, ...], ...]:
    if isinstance(value, int) and not isinstance(value, bool) and value > 0:
        return (tuple(float(size) for size in range(2 * value)),) * levels  # placeholders of v7.0
    if not isinstance(value, (list, tuple)) or not value:
        raise ValueError(
            "anchors must be their number, or one list of widths and heights per level"
        )
    rows = []
    for row in value:
        if not isinstance(row, (list, tuple)) or not row or len(row) % 2:
            raise ValueError(f"anchors {row!r} are not pairs of width and height")
        rows.append(tuple(float(size) for size in row))
    if len({len(row) for row in rows}) > 1:
        raise ValueError("every level must have the same number of anchors")
    if not all(size > 0 for row in rows for size in row):
        raise ValueError("anchor widths and heights must be above zero")
    return tuple(rows)


def _rows(definition: Mapping[str, object], key: str) -> list[Sequence[object]]:
    rows = definition[key]
    if not isinstance(rows, (list, tuple)) or not rows:
        raise ValueError(f"{key} must be a list of rows")
    for row in rows:
        if not isinstance(row, (list, tuple)) or len(row) != 4:
            raise ValueError(f"{key} row {row!r} is not [from, number, module, arguments]")
    return list(rows)


def _find(source: str) -> Path:
    if os.path.isfile(source):
        return Path(source)
    # A stock name may come short ('s', 's6'), in full, or with its folder ('models/yolov5s.yaml').
    if Path(source).parent.as_posix() in {".", "models", "models/hub"}:
        stem = Path(source).name.removesuffix(".yaml")
        for name in (f"{stem}.yaml", f"yolov5{stem}.yaml"):
            for folder in DEFINITIONS:
                if os.path.isfile(folder / name):
                    return folder / name
    raise _config_error(f"there is no model file {source}, nor a stock model of that name")


def _config_error(sentence: str) -> TaskError:
    return TaskError(
        Code.CONFIG, f"Model definition: {sentence}; use one like models/yolov5s.yaml."
    )
