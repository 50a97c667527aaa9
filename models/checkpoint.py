"""Weights to and from disk, and the network that they belong to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from models.detector import Detector
from models.model_config import Layout, parse_layout
from models.registry import scaled_repeats
from models.safe_load.torch_file import read_torch_file, unusable
from models.safe_load.yolov5 import is_official, official_parts
from models.safetensors_file import is_safetensors, read_safetensors
from utils.atomic import replace_file
from utils.errors import Code, TaskError

FORMAT = "ymir-yolov5"
VERSION = 1
LARGEST_SHARE = 2
"""How much larger than its weights a file's network may be before the two are not one."""


@dataclass(frozen=True)
class Checkpoint:
    """A network at rest: how to build it, what its classes are called, its weights.

    `layout` is a model definition as plain types, `state` a state dict with the keys of v7.0 on
    the CPU; `metadata` is anything made of plain types and tensors.
    """

    layout: dict[str, object]
    class_names: tuple[str, ...]
    state: dict[str, Tensor]
    metadata: dict[str, object] = field(default_factory=dict)


def checkpoint_of(
    detector: Detector, class_names: Sequence[str], metadata: Mapping[str, object] | None = None
) -> Checkpoint:
    """The checkpoint of an unfused detector; its tensors are copies on the CPU."""
    state = {key: value.detach().cpu().clone() for key, value in detector.state_dict().items()}
    assert len(class_names) == detector.nc
    return Checkpoint(detector.definition(), tuple(class_names), state, dict(metadata or {}))


def save_checkpoint(path: Path, checkpoint: Checkpoint, *, half: bool = False) -> None:
    """Write a checkpoint in one step: the file is the old one or the new one, never a part.

    Weights are kept as they are, so that a reloaded network gives the same numbers; `half` stores
    float16 instead, for half the size. The file opens with `torch.load(weights_only=True)`.
    """
    content = {
        "format": FORMAT,
        "version": VERSION,
        "layout": _storable(checkpoint.layout),
        "class_names": list(checkpoint.class_names),
        "state": {key: _stored(value, half) for key, value in checkpoint.state.items()},
        "metadata": _storable(checkpoint.metadata),
    }
    with replace_file(path) as temporary:
        torch.save(content, temporary)


def load_checkpoint(path: str | Path) -> Checkpoint:
    """Read a checkpoint of this program or of the official v7.0 code; weights become float32.

    Raises `TaskError` (model) with the file's name when it is missing, damaged, of another kind,
    or would need code to be opened.
    """
    path = Path(path)
    content = read_safetensors(path) if is_safetensors(path) else read_torch_file(path)
    if not isinstance(content, dict):
        raise unusable(path, "is a PyTorch file, but not a detector's checkpoint")
    try:
        read = _from_official(content, path) if is_official(content) else _from_own(content, path)
    # What a crafted or half-written structure may lead to.
    except (AttributeError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise unusable(path, "has content that makes no sense for a checkpoint") from error
    if read.layout.get("nc") != len(read.class_names):
        count = len(read.class_names)
        raise unusable(path, f"names {count} classes but has outputs for {read.layout.get('nc')}")
    return read


def _from_official(content: dict[str, object], path: Path) -> Checkpoint:
    layout, names, state, metadata = official_parts(content, path)
    return Checkpoint(layout, names, _widened(state, path), metadata)


def _from_own(content: dict[str, object], path: Path) -> Checkpoint:
    if content.get("format") != FORMAT:
        raise unusable(path, "is a PyTorch file, but not a detector's checkpoint")
    if content.get("version") != VERSION:
        raise unusable(path, f"has the format version {content.get('version')}, not {VERSION}")
    layout, state, metadata = (_part(content, key) for key in ("layout", "state", "metadata"))
    names = content["class_names"]
    if not isinstance(names, list):
        raise TypeError("class names must be a list")
    weights = {key: value for key, value in state.items() if isinstance(value, Tensor)}
    return Checkpoint(layout, tuple(str(name) for name in names), _widened(weights, path), metadata)


def _part(content: dict[str, object], key: str) -> dict[str, object]:
    value = content[key]
    if not isinstance(value, dict):
        raise TypeError(f"{key} must be a mapping")
    return value


def build_detector(checkpoint: Checkpoint, nc: int | None = None) -> Detector:
    """The checkpoint's network with its weights, in training mode on the CPU.

    With another class count `nc` the head's convolutions are freshly initialised. Raises
    `TaskError` (model) when definition and weights do not belong together.
    """
    detector = Detector(layout_of(checkpoint, nc))
    expected = detector.state_dict()
    fresh = head_keys(detector) if nc not in (None, len(checkpoint.class_names)) else frozenset()
    unfit = [
        key
        for key in {*expected, *checkpoint.state} - fresh
        if key not in expected
        or key not in checkpoint.state
        or expected[key].shape != checkpoint.state[key].shape
    ]
    if unfit:
        raise TaskError(
            Code.MODEL,
            f"{len(unfit)} tensors of the weight file do not fit its own model definition, such as "
            f"{min(unfit)}; the file is not a complete YOLOv5 v5.0 to v7.0 detection model.",
        )
    kept = {key: value for key, value in checkpoint.state.items() if key not in fresh}
    detector.load_state_dict(kept, strict=not fresh)
    return detector


def layout_of(checkpoint: Checkpoint, nc: int | None = None, *, activation: str = "") -> Layout:
    """The layout of a checkpoint's network, for `nc` classes or an `activation` other than its own.

    A definition that asks for much more than the weights hold is refused before any memory is
    taken for it. Raises `TaskError` (model).
    """
    try:
        layout = _parsed(checkpoint, None)
        # Without the first question, a row repeated a billion times would be built.
        larger = _blocks(layout) > len(checkpoint.state) + len(layout.layers) or _numbers(
            _shapes(layout)
        ) > LARGEST_SHARE * _numbers(checkpoint.state)
    # What numbers beyond all bounds come to, here or within torch.
    except (OverflowError, RuntimeError, TypeError, ValueError) as error:
        raise _not_one() from error
    if larger:
        raise _not_one()
    return _parsed(checkpoint, nc, activation)


def _blocks(layout: Layout) -> int:
    """How many blocks a definition asks for, repetitions counted."""
    definition = cast("dict[str, Any]", layout.definition)
    rows = [*definition["backbone"], *definition["head"]]
    return sum(scaled_repeats(row[1], definition["depth_multiple"]) for row in rows)


def _shapes(layout: Layout) -> dict[str, Tensor]:
    """A network's tensors without their numbers: no memory, no random draw."""
    with torch.device("meta"):
        return Detector(layout).state_dict()


def _numbers(state: Mapping[str, Tensor]) -> int:
    return sum(tensor.numel() for tensor in state.values())


def _not_one() -> TaskError:
    return TaskError(
        Code.MODEL,
        "The model definition in the weight file describes a much larger network than its weights; "
        "the file is not a complete YOLOv5 v5.0 to v7.0 detection model.",
    )


def head_keys(detector: Detector) -> frozenset[str]:
    """Keys of the head's convolutions, whose shape or meaning depends on the classes."""
    prefix = f"model.{len(detector.model) - 1}."
    return frozenset(f"{prefix}m.{key}" for key in detector.head.m.state_dict())


def _parsed(checkpoint: Checkpoint, nc: int | None, activation: str = "") -> Layout:
    name = "the definition in the weight file"
    try:
        return parse_layout(checkpoint.layout, nc, activation=activation, name=name)
    except TaskError as error:
        raise TaskError(Code.MODEL, error.sentence) from error


def _widened(state: Mapping[str, Tensor], path: Path) -> dict[str, Tensor]:
    # Views may share numbers; their copies would not.
    if sum(t.numel() * t.element_size() for t in state.values()) > path.stat().st_size:
        raise unusable(path, "holds weights that unfold to more than the file has")
    # A network that is not a number finds nothing, without a word. (Infinity may come of float16.)
    if any(bool(t.isnan().any()) for t in state.values() if t.is_floating_point()):
        raise unusable(path, "holds weights that are not numbers (NaN)")
    return {k: v.detach().float() if v.is_floating_point() else v for k, v in state.items()}


def _stored(tensor: Tensor, half: bool) -> Tensor:
    # A clone, because a view would drag its whole storage into the file.
    flat = tensor.detach().cpu().contiguous().clone()
    return flat.half() if half and flat.is_floating_point() else flat


def _storable(value: object) -> object:
    """The same value in types that the weights-only reader knows; our own bug if there is none."""
    if isinstance(value, Mapping):
        return {key: _storable(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_storable(item) for item in value]
    if isinstance(value, Tensor):
        return _stored(value, half=False)
    # Exact types: a numpy float is a float too, but would be pickled under its own name.
    for kind in (bool, int, float, str):
        if isinstance(value, kind):
            return kind(value)
    assert value is None, f"{type(value).__name__} cannot be stored in a checkpoint"
    return None
