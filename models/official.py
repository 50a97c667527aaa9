"""Weight files of YOLOv5 v5 to v7.0, read as data: nothing that such a file names is ever run.

Those files are pickled modules. torch's weights-only reader rebuilds tensors and plain types and
asks for every other name in an allow-list; ours maps each name such a file needs to an empty
stand-in class that only remembers what it was given. The tree of stand-ins is then walked for
tensors. Any other name is refused. (spec: architecture, section 7.)
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import torch
from torch import Tensor, serialization

from utils.errors import Code, TaskError

DEEPEST = 32
"""Levels of modules within modules; a real file has six, one that contains itself has no end."""

_MODULES = {
    "models.yolo": "DetectionModel Model Detect",
    "models.common": (
        "Conv C3 Bottleneck SPPF Concat Focus SPP BottleneckCSP C3TR C3Ghost C3SPP C3x GhostConv "
        "GhostBottleneck DWConv CrossConv TransformerBlock TransformerLayer Contract Expand"
    ),
    "models.experimental": "Sum MixConv2d",
    "torch.nn.modules.conv": "Conv2d",
    "torch.nn.modules.batchnorm": "BatchNorm2d",
    "torch.nn.modules.activation": "SiLU LeakyReLU Hardswish ReLU ReLU6 MultiheadAttention",
    "torch.nn.modules.container": "Sequential ModuleList",
    "torch.nn.modules.pooling": "MaxPool2d",
    "torch.nn.modules.upsampling": "Upsample",
    "torch.nn.modules.linear": "Linear Identity NonDynamicallyQuantizableLinear",
    "torch.nn.modules.padding": "ZeroPad2d",
}
_VALUES = {
    "numpy": "ndarray dtype",
    "numpy.core.multiarray": "_reconstruct scalar",
    "numpy._core.multiarray": "_reconstruct scalar",
    "_codecs": "encode",
}
_PATHS = {"pathlib": "PosixPath WindowsPath PurePosixPath PureWindowsPath Path PurePath"}


class StandIn:
    """Takes the place of an object in the file: keeps its state, does nothing."""

    arguments: tuple[object, ...]
    state: object

    def __new__(cls, *arguments: object) -> StandIn:
        """Remember the constructor's arguments without acting on them."""
        made = object.__new__(cls)
        made.arguments = arguments
        made.state = None
        return made

    def __init__(self, *arguments: object) -> None:
        pass

    def __setstate__(self, state: object) -> None:
        self.state = state

    def attribute(self, name: str) -> object:
        """An attribute the pickled object had, or None."""
        return self.state.get(name) if isinstance(self.state, Mapping) else None


class ModuleStandIn(StandIn):
    """Stands for a network layer, whose state holds parameters, buffers and children."""


class PathStandIn(StandIn):
    """Stands for a file path: a list of its parts."""

    def __str__(self) -> str:
        """The path as text, with forward slashes."""
        return "/".join(str(part) for part in self.arguments).replace("//", "/")


def read_torch_file(path: Path) -> object:
    """What a `torch.save` file holds: tensors on the CPU, plain types and stand-ins.

    Only zip-based files are read: older ones have ways around the weights-only reader in torch
    before 2.6. Raises `TaskError` (model) for anything else, naming the file, what is wrong with
    it and, if it asks for a name outside the allow-list, that name.
    """
    _check_container(path)
    try:
        with _only_stand_ins():
            return torch.load(path, map_location="cpu", weights_only=True)
    # A damaged or crafted file can raise nearly anything from inside the reader.
    except Exception as error:
        named = re.search(r"GLOBAL (\S+)", str(error))
        if named:
            reason = (
                f"asks for {named[1].rstrip('.')}, which a YOLOv5 detection model does not need"
            )
            raise unusable(path, f"{reason}, so it was not opened") from error
        raise unusable(path, "is damaged or cut short") from error


def unusable(path: Path, reason: str) -> TaskError:
    """The refusal of a weight file: `reason` completes the sentence 'the file ...'."""
    return TaskError(
        Code.MODEL,
        f"The weight file {path} {reason}; give a checkpoint of this program or a YOLOv5 v7.0 "
        "detection .pt file.",
    )


def _check_container(path: Path) -> None:
    if not path.is_file():
        raise unusable(path, "does not exist")
    try:
        with path.open("rb") as file:
            start = file.read(4)
        if not start:
            raise unusable(path, "is empty")
        if start != b"PK\x03\x04":
            raise unusable(path, "is not a zip-based PyTorch file")
        with zipfile.ZipFile(path) as archive:
            members = {name.partition("/")[2] for name in archive.namelist()}
    except zipfile.BadZipFile as error:
        raise unusable(path, "is damaged or cut short") from error
    except OSError as error:
        raise unusable(path, f"cannot be read ({error.strerror})") from error
    if "constants.pkl" in members:
        raise unusable(path, "is a TorchScript archive")
    if "data.pkl" not in members:
        raise unusable(path, "is a zip archive, but not a PyTorch file")


@contextmanager
def _only_stand_ins() -> Iterator[None]:
    """Let torch's reader know the stand-ins and no other class, for as long as the block runs."""
    before = serialization.get_safe_globals()
    serialization.clear_safe_globals()
    # `set` is a plain type that torch 2.4 does not know by itself.
    serialization.add_safe_globals([set, *_stand_ins()])
    try:
        yield
    finally:
        serialization.clear_safe_globals()
        serialization.add_safe_globals(before)


@cache
def _stand_ins() -> tuple[type[StandIn], ...]:
    kinds = ((ModuleStandIn, _MODULES), (StandIn, _VALUES), (PathStandIn, _PATHS))
    return tuple(
        # torch finds a class by these two attributes.
        type(name, (kind,), {"__module__": module, "__qualname__": name})
        for kind, table in kinds
        for module, names in table.items()
        for name in names.split()
    )


def is_official(content: object) -> bool:
    """Whether a file's content is a checkpoint of the official code: pickled modules in a dict."""
    return isinstance(content, dict) and any(
        isinstance(content.get(key), ModuleStandIn) for key in ("ema", "model")
    )


def official_parts(
    content: dict[str, object], path: Path
) -> tuple[dict[str, object], tuple[str, ...], dict[str, Tensor], dict[str, object]]:
    """Model definition, class names, state dict and metadata of an official checkpoint.

    The averaged model is preferred where both are there. The anchors are those of the state dict,
    in grid cells; half precision is left as it is. Raises `TaskError` (model).
    """
    averaged = content.get("ema")
    model = averaged if isinstance(averaged, ModuleStandIn) else content["model"]
    assert isinstance(model, ModuleStandIn)
    definition = plain(model.attribute("yaml"))
    if not isinstance(definition, dict):
        raise unusable(path, "holds a model without its definition")
    state = {key: tensor for key, tensor in _tensors(model, "") if "anchor_grid" not in key}
    metadata = {
        "origin": "official YOLOv5 checkpoint",
        **{key: plain(content.get(key)) for key in ("epoch", "date", "opt")},
    }
    return definition, _names(model, definition, path), state, metadata


def plain(value: object) -> object:
    """Numbers, text, lists and dicts of them; paths become text, whatever else becomes None."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, PathStandIn):
        return str(value)
    if isinstance(value, Mapping):
        return {k if isinstance(k, (int, str)) else str(k): plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return None


def _names(model: StandIn, definition: Mapping[str, object], path: Path) -> tuple[str, ...]:
    names = model.attribute("names") or ()
    classes = definition.get("nc")
    if isinstance(names, Mapping):
        names = [names[index] for index in sorted(names)]
    if not isinstance(names, (list, tuple)) or not isinstance(classes, int):
        raise unusable(path, "does not say which classes it knows")
    # Files trained on several GPUs may carry no names; v7.0 then numbers the classes.
    return tuple(str(name) for name in names) or tuple(str(index) for index in range(classes))


def _tensors(module: StandIn, prefix: str) -> Iterator[tuple[str, Tensor]]:
    """Parameters and persistent buffers below a module, with their state-dict keys."""
    if prefix.count(".") > DEEPEST:
        raise ValueError(f"modules are nested more than {DEEPEST} deep")
    skipped = module.attribute("_non_persistent_buffers_set") or ()
    for group in ("_parameters", "_buffers"):
        for name, tensor in _mapping(module, group).items():
            hidden = isinstance(skipped, (set, list, tuple)) and name in skipped
            if isinstance(tensor, Tensor) and not hidden:
                yield f"{prefix}{name}", tensor.detach()
    for name, child in _mapping(module, "_modules").items():
        if isinstance(child, StandIn):
            yield from _tensors(child, f"{prefix}{name}.")


def _mapping(module: StandIn, attribute: str) -> Mapping[str, object]:
    value = module.attribute(attribute)
    return value if isinstance(value, Mapping) else {}
