"""Facts that an official checkpoint states twice: where definition and modules differ.

The modules compute, so they decide. What a definition cannot say is a contradiction, and refused.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from models.anchors import in_stride_order
from models.blocks import Activation, Conv, parse_activation
from models.detector import Detector
from models.extra_blocks import BottleneckCSP, MixConv2d
from models.model_config import ModelConfig
from models.safe_load.allowlist import shown_name
from models.safe_load.pickle_reader import StandIn
from models.safe_load.torch_file import checkpoint_error

Tree = Mapping[str, StandIn]
"""Modules of a file by path, as in state-dict keys."""

RENAMED = {"MemoryEfficientMish": "Mish", "MemoryEfficientSwish": "SiLU", "Swish": "SiLU"}
GEOMETRY = ("kernel_size", "stride", "padding", "dilation", "groups")
ANCHOR_TOLERANCE = 2e-3
"""Relative; anchors in half precision are that far from those of the definition."""


def rows_by_modules(
    definition: Mapping[str, object], tree: Tree
) -> tuple[dict[str, object], list[str]]:
    """Return a definition whose rows and counts are those of the modules, and what was changed.

    Input channels and classes, strides of convolutions, and how maps are upsampled.
    """
    changed, notes = dict(definition), []
    head = tree.get(f"model.{_count(definition) - 1}")
    stem = tree.get("model.0.conv.conv") or tree.get("model.0.conv")
    channels = stem.attribute("in_channels") if stem else None
    if type(channels) is int and "model.0.conv.conv" in tree:
        channels //= 4  # Focus
    for key, found in (("ch", channels), ("nc", head.attribute("nc") if head else None)):
        stated = definition.get(key, 3 if key == "ch" else None)
        if type(found) is int and found > 0 and found != stated:
            changed[key] = found
            notes.append(f"{key} {found} (definition: {stated})")
    index = 0
    for part in ("backbone", "head"):
        rows = []
        for row in _rows(definition, part):
            made = _row_by_module(row, tree, index)
            if made != row:
                notes.append(f"layer {index} {made[2]} {made[3]} (definition: {row[3]})")
            rows.append(made)
            index += 1
        changed[part] = rows
    return changed, notes


def checked_by_modules(
    config: ModelConfig, tree: Tree, path: Path
) -> tuple[dict[str, object], list[str]]:
    """Return entries of the definition that the modules state otherwise, and what was changed.

    Raises `TaskError` (model) where modules contradict each other, or state what a definition
    cannot.
    """
    with torch.device("meta"):
        network = Detector(config)
    found: dict[str, set[object]] = {"activation": set(), "joint_activation": set()}
    norms: dict[str, set[object]] = {"batch_norm_eps": set(), "batch_norm_momentum": set()}
    for name, ours in network.named_modules():
        theirs = tree.get(name)
        if theirs is None:
            continue
        if isinstance(ours, Conv):
            activation = _activation(tree, f"{name}.act", path)
            if ours.default_activation:
                found["activation"].add(activation)
            elif activation not in (None, ours.activation or Activation("Identity")):
                raise _contradiction(path, f"{name} ends in {activation}")
        elif isinstance(ours, (BottleneckCSP, MixConv2d)):
            found["joint_activation"].add(_activation(tree, f"{name}.act", path))
        elif isinstance(ours, nn.BatchNorm2d):
            for key, values in norms.items():
                values.add(theirs.attribute(key.removeprefix("batch_norm_")))
        else:
            _check_geometry(ours, theirs, name, path)
        if (residual := getattr(ours, "residual", None)) is not None:
            added = theirs.attribute("add")
            if isinstance(added, bool) and added != residual:
                raise _contradiction(path, f"{name} has add {added}")
    _check_wiring(config, tree, path)
    stated: dict[str, object] = {
        "activation": config.activation,
        "joint_activation": config.joint_activation,
        "batch_norm_eps": config.batch_norm[0],
        "batch_norm_momentum": config.batch_norm[1],
    }
    changed, notes = {}, []
    for key, values in (found | norms).items():
        value = _only(values - {None}, key, path)
        if value is not None and value != stated[key]:
            changed[key] = str(value) if isinstance(value, Activation) else value
            notes.append(f"{key} {value} (definition: {stated[key]})")
    return changed, notes + _anchor_note(config, tree)


def _activation(tree: Tree, path: str, file: Path) -> Activation | None:
    """Return the activation of a module; None if it has none of its own, as before v1.0."""
    module = tree.get(path)
    if module is None:
        return None
    name = module.name.rpartition(".")[2]
    try:
        found = parse_activation(RENAMED.get(name, name))
    except ValueError:
        found = None
    parameter = module.attribute(found.parameter_name) if found and found.parameter_name else 0.0
    known = isinstance(parameter, (int, float)) and math.isfinite(parameter)
    if found is None or not known or module.attribute("approximate") not in (None, "none"):
        raise checkpoint_error(
            file, f"has the activation {shown_name(module.name)}, which is not known here ({path})"
        )
    assert isinstance(parameter, (int, float))
    return Activation(found.name, float(parameter))


def _only(values: set[object], key: str, path: Path) -> object:
    """Return the one value of all modules, None without any; refuse mixed and impossible ones."""
    if len(values) > 1:
        shown = ", ".join(sorted(map(str, values)))
        raise checkpoint_error(path, f"mixes layers of different {key} ({shown[:200]})")
    value = next(iter(values), None)
    number = isinstance(value, (int, float)) and 0 < value < math.inf
    if value is not None and not number and not isinstance(value, Activation):
        raise checkpoint_error(path, f"has an impossible {key}")
    return value


def _row_by_module(row: Sequence[object], tree: Tree, index: int) -> Sequence[object]:
    """Return a row with the arguments that its module states, where a row can say them."""
    origin, number, block, arguments = row
    module = tree.get(f"model.{index}")
    if module is None or not isinstance(arguments, (list, tuple)):
        return row
    given = ["None" if a is None else a for a in arguments]
    if str(block).endswith("nn.Upsample"):
        stated = [module.attribute(key) for key in ("size", "scale_factor", "mode")]
        known = ["None" if value is None else value for value in stated]
        if all(isinstance(value, (int, float, str)) for value in known) and known != given[:3]:
            return [origin, number, block, [*known, *given[3:]]]
    conv = tree.get(f"model.{index}.conv")
    stride = conv.attribute("stride") if conv and block == "Conv" else None
    if isinstance(stride, tuple) and len(set(stride)) == 1 and type(stride[0]) is int:
        whole = given if len(given) > 2 else [*given, 1, 1][:3]
        if whole[2] != stride[0]:
            return [origin, number, block, [*whole[:2], stride[0], *whole[3:]]]
    return row


def _check_geometry(ours: nn.Module, theirs: StandIn, name: str, path: Path) -> None:
    if not isinstance(ours, (nn.Conv2d, nn.ConvTranspose2d, nn.MaxPool2d)):
        return
    for key in GEOMETRY:
        stated = theirs.attribute(key)
        if stated is not None and _pair(stated) != _pair(getattr(ours, key, None)):
            raise _contradiction(path, f"{name} has {key} {str(stated)[:40]}")


def _pair(size: object) -> object:
    """Return sizes of both sides, of a number or a pair of numbers; None for anything else."""
    pair = (size, size) if isinstance(size, int) else size
    is_pair = isinstance(pair, tuple) and all(isinstance(side, int) for side in pair)
    return pair if is_pair else None


def _check_wiring(config: ModelConfig, tree: Tree, path: Path) -> None:
    """Refuse layers with other inputs, and a head with other strides, than the definition has."""
    rows = [*_rows(config.definition, "backbone"), *_rows(config.definition, "head")]
    for index, row in enumerate(rows):
        module = tree.get(f"model.{index}")
        stated = module.attribute("f") if module else None
        if stated is not None and _listed(stated) != _listed(row[0]):
            raise _contradiction(path, f"layer {index} takes its input from {str(stated)[:40]}")
    head = tree.get(f"model.{len(rows) - 1}")
    strides = head.attribute("stride") if head else None
    if isinstance(strides, Tensor) and strides.flatten().tolist() != list(config.strides):
        raise _contradiction(path, f"the head has the strides {strides.flatten().tolist()[:8]}")


def _anchor_note(config: ModelConfig, tree: Tree) -> list[str]:
    """Return a note on anchors that differ from listed ones, as AutoAnchor leaves them."""
    head = tree.get(f"model.{len(config.layers)}")
    buffers = head.attribute("_buffers") if head else None
    cells = buffers.get("anchors") if isinstance(buffers, Mapping) else None
    if not isinstance(cells, Tensor) or not isinstance(config.definition["anchors"], (list, tuple)):
        return []
    if cells.numel() != sum(map(len, config.anchors)) or len(cells) != len(config.strides):
        return []
    pixels = cells.float().flatten(1) * torch.tensor(config.strides).view(-1, 1)
    listed = in_stride_order(config.anchors, config.strides)
    if np.allclose(pixels.numpy(), listed, rtol=ANCHOR_TOLERANCE):
        return []
    shown = ", ".join(f"{w:.0f}x{h:.0f}" for w, h in pixels.view(-1, 2).tolist())
    return [f"anchors {shown} (the definition lists others)"]


def _contradiction(path: Path, what: str) -> Exception:
    return checkpoint_error(path, f"contradicts its own model definition: {what}")


def _count(definition: Mapping[str, object]) -> int:
    return sum(1 for part in ("backbone", "head") for _ in _rows(definition, part))


def _rows(definition: Mapping[str, object], part: str) -> Iterator[Sequence[object]]:
    rows = definition.get(part)
    for row in rows if isinstance(rows, (list, tuple)) else ():
        if not isinstance(row, (list, tuple)) or len(row) != 4:
            raise ValueError("a row has four parts")
        yield row


def _listed(origin: object) -> list[object]:
    return list(origin) if isinstance(origin, (list, tuple)) else [origin]
