"""Weights to and from disk, and into a network for another data set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from models.detector import Detector
from models.layout import Layout, parse_layout
from models.official import is_official, official_parts, read_torch_file, unusable
from utils.atomic import replace_file
from utils.errors import Code, TaskError

FORMAT = "ymir-yolov5"
VERSION = 1
SMALLEST_SHARE = 0.5
"""Share of the network's tensors that must fit for weights to count as the same architecture."""


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


@dataclass(frozen=True)
class TransferReport:
    """How much of a checkpoint entered a network: tensors copied of those the network has.

    `head_kept` says whether the detection head came along; `note` is a sentence for the log.
    """

    copied: int
    total: int
    head_kept: bool
    note: str


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
    content = read_torch_file(path)
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
    return Checkpoint(layout, names, _widened(state), metadata)


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
    return Checkpoint(layout, tuple(str(name) for name in names), _widened(weights), metadata)


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
    detector = Detector(_layout(checkpoint, nc))
    expected = detector.state_dict()
    fresh = _head_keys(detector) if nc not in (None, len(checkpoint.class_names)) else frozenset()
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
            f"{min(unfit)}; the file is not a complete YOLOv5 v6 or v7.0 detection model.",
        )
    kept = {key: value for key, value in checkpoint.state.items() if key not in fresh}
    detector.load_state_dict(kept, strict=not fresh)
    return detector


def transfer(
    detector: Detector, checkpoint: Checkpoint, class_names: Sequence[str]
) -> TransferReport:
    """Copy into `detector`, in place, every tensor of the same key and shape.

    The head's convolutions come along only when both know the same classes in the same order.
    Raises `TaskError` (model) when less than half of the tensors fit: another architecture.
    """
    own = detector.state_dict()
    same_classes = tuple(class_names) == checkpoint.class_names
    head = _head_keys(detector)
    fitting = {
        key: value
        for key, value in checkpoint.state.items()
        if key in own and own[key].shape == value.shape and (same_classes or key not in head)
    }
    if len(fitting) < SMALLEST_SHARE * len(own):
        raise TaskError(
            Code.MODEL,
            f"Only {len(fitting)} of the network's {len(own)} tensors fit the pretrained weights; "
            "choose the model (setting 'model') that the weights were trained with.",
        )
    detector.load_state_dict(fitting, strict=False)
    head_kept = head <= fitting.keys()
    return TransferReport(
        len(fitting), len(own), head_kept, _note(head_kept, class_names, checkpoint)
    )


def _note(head_kept: bool, class_names: Sequence[str], checkpoint: Checkpoint) -> str:
    if head_kept:
        return "The whole network starts from the pretrained weights."
    if tuple(class_names) == checkpoint.class_names:
        why = "its anchors differ in number from those of the weights"
    elif len(class_names) != len(checkpoint.class_names):
        known, asked = len(checkpoint.class_names), len(class_names)
        why = f"the weights know {known} classes and the task {asked}"
    else:
        why = "the weights know other classes, or the same in another order"
    return f"The detection head starts afresh, because {why}."


def _head_keys(detector: Detector) -> frozenset[str]:
    """Keys of the head's convolutions, whose shape or meaning depends on the classes."""
    prefix = f"model.{len(detector.model) - 1}."
    return frozenset(f"{prefix}m.{key}" for key in detector.head.m.state_dict())


def _layout(checkpoint: Checkpoint, nc: int | None) -> Layout:
    try:
        return parse_layout(checkpoint.layout, nc, name="the definition in the weight file")
    except TaskError as error:
        raise TaskError(Code.MODEL, error.sentence) from error


def _widened(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
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
