"""Checkpoints of YOLOv5 v5.0 to v7.0: where in them definition, names and weights are.

Those files hold whole pickled modules, which the reader turns into a tree of stand-ins.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from pathlib import Path

from torch import Tensor

from models.safe_load.allowlist import ModuleStandIn, PathStandIn
from models.safe_load.pickle_reader import StandIn
from models.safe_load.torch_file import checkpoint_error

MAX_CLASSES = 100_000
NUMBER_FORMATS = {"f8": "d", "f4": "f", "f2": "e", "i8": "q", "i4": "i", "i2": "h"}
"""numpy's names of number formats, and those of `struct`."""


def is_yolov5_checkpoint(content: Mapping[str, object]) -> bool:
    """Whether a file's content is an official checkpoint, with pickled modules."""
    return bool(_models(content))


def yolov5_parts(
    content: dict[str, object], path: Path
) -> tuple[dict[str, object], tuple[str, ...], dict[str, Tensor], dict[str, object]]:
    """Return model definition, class names, state dict and metadata of an official checkpoint.

    The EMA model is preferred where both are there. The anchors are those of the state dict, in
    grid cells; half precision is left as it is. Raises `TaskError` (model).
    """
    models = _models(content)
    definition = plain(models[0].attribute("yaml"))
    if not isinstance(definition, dict):
        raise checkpoint_error(path, "holds a model without its definition")
    # v5.0 keeps the anchors a second time, in pixels.
    state = {key: tensor for key, tensor in _tensors(models[0], "") if "anchor_grid" not in key}
    metadata = {
        "origin": "official YOLOv5 checkpoint",
        **{key: plain(content.get(key)) for key in ("epoch", "best_fitness", "date", "opt")},
    }
    return definition, _names(models, definition, path), state, metadata


def plain(value: object) -> object:
    """Return a value as numbers, text, lists and dicts of them; whatever else becomes None.

    Paths become text, numpy's numbers plain ones.
    """
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, PathStandIn):
        return str(value)
    if isinstance(value, StandIn):
        return _number(value)
    if isinstance(value, Mapping):
        return {k if isinstance(k, (int, str)) else str(k): plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return None


def _models(content: Mapping[str, object]) -> list[ModuleStandIn]:
    """Return the EMA model, then the live one, as far as they are there."""
    found = [content.get("ema"), content.get("model")]
    # Some versions before v5.0 kept the EMA in a pair with its update count.
    found = [f[0] if isinstance(f, (tuple, list)) and f else f for f in found]
    return [model for model in found if isinstance(model, ModuleStandIn)]


def _names(
    models: list[ModuleStandIn], definition: Mapping[str, object], path: Path
) -> tuple[str, ...]:
    classes = definition.get("nc")
    if type(classes) is not int or not 0 < classes <= MAX_CLASSES:
        raise checkpoint_error(path, "does not say which classes it knows")
    # On several GPUs the names were put on a wrapper of the live model; only the EMA has them.
    names = next((found for model in models if (found := model.attribute("names"))), ())
    if isinstance(names, Mapping):
        names = [names[index] for index in sorted(names, key=int)]
    if not isinstance(names, (list, tuple)):
        raise checkpoint_error(path, "does not say which classes it knows")
    # Without any, v7.0 numbers the classes.
    return tuple(str(plain(name)) for name in names) or tuple(map(str, range(classes)))


def _number(value: StandIn) -> int | float | None:
    """Return the number in a numpy scalar or an array of one element; None for anything else."""
    if value.name.endswith("multiarray.scalar") and len(value.arguments) == 2:
        kind, content = value.arguments
    elif value.name.endswith("multiarray._reconstruct") and isinstance(value.state, tuple):
        *_, kind, _, content = (None, None, None, *value.state)
    else:
        return None
    code = kind.arguments[0] if isinstance(kind, StandIn) and kind.arguments else None
    form = NUMBER_FORMATS.get(code) if isinstance(code, str) else None
    if form is None or not isinstance(content, bytes) or len(content) != struct.calcsize(form):
        return None
    number: int | float = struct.unpack(f"<{form}", content)[0]
    return number


def _tensors(module: StandIn, prefix: str) -> Iterator[tuple[str, Tensor]]:
    """Yield parameters and persistent buffers below a module with their state-dict keys."""
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
