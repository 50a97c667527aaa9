"""Checkpoints: weights to and from disk, and the network that they belong to.

A `.pt` file is a mapping that `torch.load(weights_only=True)` opens: format, version, layout (the
model definition), class_names, state and metadata. A `.safetensors` file has the tensors under
v7.0's keys and the rest as JSON in the header's entry `ymir-yolov5`; nothing in it can run.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from models.detector import Detector
from models.model_config import CHANNELS, ModelConfig, parse_model_config
from models.module_facts import checked_by_modules, rows_by_modules
from models.registry import scaled_repeats
from models.safe_load.torch_file import checkpoint_error, read_torch_file
from models.safe_load.yolov5 import is_yolov5_checkpoint, state_of, yolov5_parts
from utils.atomic import replace_file
from utils.errors import Code, TaskError, optional_package

log = logging.getLogger(__name__)

FORMAT = "ymir-yolov5"
VERSION = 1
SAFETENSORS = "A safetensors file"
MAX_SIZE_RATIO = 2
"""Parameters of a checkpoint's definition over those of its weights, at most."""


@dataclass(frozen=True)
class CheckpointMetadata:
    """Facts about the training that a checkpoint comes from; None where the file does not say.

    `img_size` is the longest side of the network input in pixels, `labelled_objects` the number of
    objects per class in the `labelled_images` of the training set. `other` has further entries.
    """

    epoch: int | None = None
    img_size: int | None = None
    map50: float | None = None
    map50_95: float | None = None
    labelled_images: int | None = None
    labelled_objects: tuple[float, ...] | None = None
    other: Mapping[str, object] = field(default_factory=dict)

    @classmethod
    def from_mapping(cls, entries: Mapping[str, object]) -> CheckpointMetadata:
        """Read a checkpoint's entries; a value of another type counts as missing."""
        known = {name for name in cls.__dataclass_fields__ if name != "other"}
        objects = entries.get("labelled_objects")
        counts = [_number(n) for n in objects] if isinstance(objects, (list, tuple)) else [None]
        return cls(
            epoch=_integer(entries.get("epoch")),
            img_size=_integer(entries.get("img_size")),
            map50=_number(entries.get("map50")),
            map50_95=_number(entries.get("map50_95")),
            labelled_images=_integer(entries.get("labelled_images")),
            labelled_objects=None if None in counts else tuple(cast("list[float]", counts)),
            other={key: value for key, value in entries.items() if key not in known},
        )

    def to_mapping(self) -> dict[str, object]:
        """Return the entries that a file stores: those that are known, in the order of fields."""
        named = {name: getattr(self, name) for name in self.__dataclass_fields__ if name != "other"}
        return {key: value for key, value in named.items() if value is not None} | {**self.other}

    def objects_per_image(self, num_classes: int) -> tuple[float, ...] | None:
        """Return the mean number of objects per class and training image, if it is known."""
        images, objects = self.labelled_images or 0, self.labelled_objects or ()
        if images <= 0 or len(objects) != num_classes or min(objects) < 0:
            return None
        return tuple(count / images for count in objects)

    def size_warning(self, image_size: int) -> str:
        """Return a warning when inference at `image_size` pixels differs from training, else ''."""
        if self.img_size is None or self.img_size == image_size:
            return ""
        return (
            f"the weights were trained at {self.img_size} px and run at {image_size} px now: with "
            f"img_size {self.img_size} objects have the sizes that the network was trained on"
        )


def _integer(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _number(value: object) -> float | None:
    known = isinstance(value, (int, float)) and not isinstance(value, bool)
    return cast("float", value) if known and math.isfinite(cast("float", value)) else None


@dataclass(frozen=True)
class Checkpoint:
    """A network on disk: model definition in plain types, class names, weights, metadata.

    `state` is a state dict with v7.0's keys, on the CPU.
    """

    definition: dict[str, object]
    class_names: tuple[str, ...]
    state: dict[str, Tensor]
    metadata: CheckpointMetadata = field(default_factory=CheckpointMetadata)


def checkpoint_of(
    detector: Detector, class_names: Sequence[str], metadata: CheckpointMetadata | None = None
) -> Checkpoint:
    """Return the checkpoint of an unfused detector; its tensors are copies on the CPU."""
    state = {key: value.detach().cpu().clone() for key, value in detector.state_dict().items()}
    assert len(class_names) == detector.nc
    return Checkpoint(
        detector.definition(), tuple(class_names), state, metadata or CheckpointMetadata()
    )


def save_checkpoint(path: Path, checkpoint: Checkpoint, *, half: bool = False) -> None:
    """Write a `.pt` file atomically; weights exactly as they are, or in float16 with `half`."""
    content = _content(checkpoint, half)
    with replace_file(path) as temporary:
        torch.save(content, temporary)


def _content(checkpoint: Checkpoint, half: bool) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "version": VERSION,
        "layout": _storable(checkpoint.definition),
        "class_names": list(checkpoint.class_names),
        "state": {key: _stored(value, half) for key, value in checkpoint.state.items()},
        "metadata": _storable(checkpoint.metadata.to_mapping()),
    }


def load_checkpoint(path: str | Path) -> Checkpoint:
    """Read a checkpoint of this program or of YOLOv5 v5.0 to v7.0; weights become float32.

    Where definition and modules of an official file differ, the modules decide and the log says so.
    Raises `TaskError` (model) with the file's name when it is missing, damaged, of another kind,
    or would need code to be opened.
    """
    path = Path(path)
    content = _read_safetensors(path) if _is_safetensors(path) else read_torch_file(path)
    if not isinstance(content, dict):
        raise checkpoint_error(path, "is a PyTorch file, but not a detector's checkpoint")
    try:
        if is_yolov5_checkpoint(content):
            checkpoint = _official(content, path)
        else:
            definition, names, state, metadata = _own_parts(content, path)
            checkpoint = Checkpoint(
                definition, names, _widened(state, path), CheckpointMetadata.from_mapping(metadata)
            )
    # What a crafted or half-written structure may lead to.
    except (AttributeError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise checkpoint_error(path, "has content that makes no sense for a checkpoint") from error
    _check_classes(checkpoint, path)
    return checkpoint


def _official(content: dict[str, object], path: Path) -> Checkpoint:
    """Return an official checkpoint; its definition is what its modules say."""
    tree, definition, names, metadata = yolov5_parts(content, path)
    definition, notes = rows_by_modules(definition, tree)
    if (channels := definition.get("ch", CHANNELS)) != CHANNELS:
        raise checkpoint_error(
            path, f"takes images of {channels} channels (ch), and images are read as RGB"
        )
    state = _widened(state_of(tree), path)
    checkpoint = Checkpoint(definition, names, state, CheckpointMetadata.from_mapping(metadata))
    _check_classes(checkpoint, path)
    changed, more = checked_by_modules(model_config_of(checkpoint), tree, path)
    if notes or more:
        log.info("%s: its modules decide on %s", path, "; ".join([*notes, *more]))
    return replace(checkpoint, definition={**definition, **changed})


def _check_classes(checkpoint: Checkpoint, path: Path) -> None:
    count, outputs = len(checkpoint.class_names), checkpoint.definition.get("nc")
    if outputs != count:
        raise checkpoint_error(path, f"names {count} classes but has outputs for {outputs}")


def _own_parts(
    content: dict[str, object], path: Path
) -> tuple[dict[str, object], tuple[str, ...], dict[str, Tensor], dict[str, object]]:
    """Return definition, class names, state dict and metadata of this program's format."""
    if content and all(isinstance(value, Tensor) for value in content.values()):
        raise checkpoint_error(
            path,
            "is a state dict: tensors without the network's definition and class names",
            "give the checkpoint (.pt) that they were taken from",
        )
    if content.get("format") != FORMAT:
        raise checkpoint_error(path, "is a PyTorch file, but not a detector's checkpoint")
    if content.get("version") != VERSION:
        version = content.get("version")
        raise checkpoint_error(path, f"has the format version {version}, not {VERSION}")
    parts = [content[key] for key in ("layout", "state", "metadata")]
    names = content["class_names"]
    if not isinstance(names, list) or not all(isinstance(part, dict) for part in parts):
        raise TypeError("class names are a list, the other parts are mappings")
    definition, state, metadata = cast("list[dict[str, Any]]", parts)
    weights = {key: value for key, value in state.items() if isinstance(value, Tensor)}
    return definition, tuple(str(name) for name in names), weights, metadata


def _is_safetensors(path: Path) -> bool:
    """Whether a file starts as safetensors do: eight bytes of length, then a JSON mapping."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        start = file.read(9)
    return start[8:] == b"{" and not start.startswith(b"PK")


def write_safetensors(path: Path, checkpoint: Checkpoint) -> None:
    """Write a `.safetensors` file, weights exactly as they are."""
    library = optional_package("safetensors.torch", purpose=SAFETENSORS)
    content = _content(checkpoint, half=False)
    state = content.pop("state")
    # Not `save_file`, whose files only their owner may read.
    path.write_bytes(library.save(state, {"format": "pt", FORMAT: json.dumps(content)}))


def _read_safetensors(path: Path) -> dict[str, object]:
    library = optional_package("safetensors", purpose=SAFETENSORS)
    try:
        with library.safe_open(str(path), framework="pt", device="cpu") as file:
            header: Mapping[str, str] = file.metadata() or {}
            state: dict[str, Tensor] = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        content = json.loads(header.get(FORMAT, "null"))
    except (library.SafetensorError, OSError, ValueError, RecursionError) as error:
        raise checkpoint_error(path, "is damaged or cut short") from error
    if not isinstance(content, dict):
        raise checkpoint_error(path, "holds tensors without the model that they belong to")
    return {**content, "state": state}


def build_detector(checkpoint: Checkpoint, nc: int | None = None) -> Detector:
    """Build the checkpoint's network with its weights, in training mode on the CPU.

    With another class count `nc` the head's convolutions are freshly initialised. Raises
    `TaskError` (model) when definition and weights do not belong together.
    """
    detector = Detector(model_config_of(checkpoint, nc))
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


def model_config_of(
    checkpoint: Checkpoint, nc: int | None = None, *, activation: str = ""
) -> ModelConfig:
    """Return a checkpoint's network, for `nc` classes or an `activation` other than its own.

    A definition that asks for much more than the weights hold is refused before any memory is
    taken for it. Raises `TaskError` (model).
    """
    try:
        config = _parsed(checkpoint, None)
        # The count comes first: a row repeated a billion times must not be built.
        larger = _block_count(config) > len(checkpoint.state) + len(config.layers)
        if not larger:
            with torch.device("meta"):  # no memory, no random draw
                needed = _numel(Detector(config).state_dict())
            larger = needed > MAX_SIZE_RATIO * _numel(checkpoint.state)
    # What numbers beyond all bounds come to, here or within torch.
    except (OverflowError, RuntimeError, TypeError, ValueError):
        larger = True
    if larger:
        raise TaskError(
            Code.MODEL,
            "The model definition in the weight file describes a much larger network than its "
            "weights; the file is not a complete YOLOv5 v5.0 to v7.0 detection model.",
        )
    return _parsed(checkpoint, nc, activation)


def _parsed(checkpoint: Checkpoint, nc: int | None, activation: str = "") -> ModelConfig:
    name = "the model definition in the weight file"
    try:
        return parse_model_config(checkpoint.definition, nc, activation=activation, name=name)
    except TaskError as error:
        raise TaskError(Code.MODEL, error.sentence) from error


def _block_count(config: ModelConfig) -> int:
    """Return how many blocks a definition asks for, repetitions counted."""
    definition = cast("dict[str, Any]", config.definition)
    rows = [*definition["backbone"], *definition["head"]]
    return sum(scaled_repeats(row[1], definition["depth_multiple"]) for row in rows)


def _numel(state: Mapping[str, Tensor]) -> int:
    return sum(tensor.numel() for tensor in state.values())


def head_keys(detector: Detector) -> frozenset[str]:
    """Return the keys of the head's convolutions, which depend on the classes."""
    prefix = f"model.{len(detector.model) - 1}."
    return frozenset(f"{prefix}m.{key}" for key in detector.head.m.state_dict())


def _widened(state: Mapping[str, Tensor], path: Path) -> dict[str, Tensor]:
    """Return a state dict with floats in float32; refuse NaN and views beyond the file's size."""
    # Views may share numbers; their copies would not.
    if sum(t.numel() * t.element_size() for t in state.values()) > path.stat().st_size:
        raise checkpoint_error(path, "holds weights that unfold to more than the file has")
    # A network of NaN detects nothing, silently. (Infinity may come of float16.)
    if any(bool(t.isnan().any()) for t in state.values() if t.is_floating_point()):
        raise checkpoint_error(path, "holds weights that are not numbers (NaN)")
    return {k: v.detach().float() if v.is_floating_point() else v for k, v in state.items()}


def _stored(tensor: Tensor, half: bool) -> Tensor:
    # A clone: a view would drag its whole storage into a file, or be refused.
    flat = tensor.detach().cpu().contiguous().clone()
    return flat.half() if half and flat.is_floating_point() else flat


def _storable(value: object) -> object:
    """Return a value in types that torch's weights-only reader knows."""
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
