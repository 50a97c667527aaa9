"""Checkpoints of YOLOv5 v5.0 to v7.0: where in them definition, names and weights are.

Those files hold whole pickled modules, which the reader turns into a tree of stand-ins.
"""

from __future__ import annotations

import itertools
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path

from torch import Tensor

from models.safe_load.allowlist import ModuleStandIn, PathStandIn, shown_name
from models.safe_load.pickle_reader import KEYS, StandIn
from models.safe_load.torch_file import GIVE_ANOTHER, checkpoint_error
from utils.errors import TaskError

MAX_CLASSES = 100_000
MAX_IMAGE_SIZE = 100_000
MAX_MODULES = 20_000
MAX_NAME = 40
"""More layers, and characters of a layer's name, than any network has."""
NUMBER_FORMATS = {
    **{"f8": "d", "f4": "f", "f2": "e", "i8": "q", "i4": "i", "i2": "h", "i1": "b"},
    **{"u8": "Q", "u4": "I", "u2": "H", "u1": "B", "b1": "?"},
}
"""numpy's names of number formats, and those of `struct`."""
WRAPPERS = ("DataParallel", "DistributedDataParallel")
NAMESPACES = ("argparse.Namespace", "types.SimpleNamespace")
OTHER_NETWORKS: Mapping[str, tuple[str, ...]] = {
    "a network of the ultralytics package (YOLOv8, YOLO11, yolov5nu and others)": ("ultralytics.",),
    "a YOLOv5 segmentation model": ("models.yolo.SegmentationModel", "models.yolo.Segment"),
    "a classification model": (
        *("models.yolo.ClassificationModel", "models.common.Classify"),
        *("torchvision.models.", "timm."),
    ),
    "a YOLOv7 network": tuple(
        f"models.{name}"
        for name in (
            *("yolo.IDetect", "yolo.IAuxDetect", "yolo.IBin", "yolo.IKeypoint", "common.MP"),
            *("common.SP", "common.ReOrg", "common.RepConv", "common.SPPCSPC", "common.DownC"),
        )
    ),
    "a YOLOv6 network": ("yolov6.",),
    "a YOLOX network": ("yolox.",),
}
"""Networks of other programs and tasks, by names of their classes."""


def is_yolov5_checkpoint(content: Mapping[str, object]) -> bool:
    """Whether a file's content has pickled modules, as official checkpoints."""
    return bool(_models(content))


def yolov5_parts(
    content: dict[str, object], path: Path
) -> tuple[dict[str, StandIn], dict[str, object], tuple[str, ...], dict[str, object]]:
    """Return modules by path, definition, class names and metadata of an official checkpoint.

    The EMA model is preferred where both are there. Raises `TaskError` (model), for a layer or a
    network that is not YOLOv5's with its name.
    """
    models = _models(content)
    tree = dict(itertools.islice(_tree(models[0], ""), MAX_MODULES))
    for part, module in tree.items():
        if not isinstance(module, ModuleStandIn):
            raise _refusal_of_layer(module.name, path)
        if module.name.endswith((".Conv", ".DWConv")) and "bn" not in _mapping(module, "_modules"):
            raise checkpoint_error(
                path,
                f"is a fused model: {part} has no batch normalisation",
                "give the checkpoint as the training wrote it, saved without fuse()",
            )
    definition = plain(models[0].attribute("yaml"))
    if not isinstance(definition, dict):
        raise checkpoint_error(path, "holds a model without its definition")
    options = plain(content.get("opt"))
    metadata = {
        "origin": "official YOLOv5 checkpoint",
        "img_size": _image_size(options) if isinstance(options, dict) else None,
        **{key: plain(content.get(key)) for key in ("epoch", "best_fitness", "date")},
        "opt": options,
    }
    return tree, definition, _names(models, definition, path), metadata


def state_of(tree: Mapping[str, StandIn]) -> dict[str, Tensor]:
    """Return the state dict of modules by path: half precision and anchors in cells as they are."""
    state = {}
    for path, module in tree.items():
        skipped = module.attribute("_non_persistent_buffers_set") or ()
        for group in ("_parameters", "_buffers"):
            for name, tensor in _mapping(module, group).items():
                hidden = isinstance(skipped, (set, list, tuple)) and name in skipped
                # v5.0 keeps the anchors a second time, in pixels.
                if isinstance(tensor, Tensor) and not hidden and "anchor_grid" not in str(name):
                    state[f"{path}.{name}" if path else str(name)] = tensor.detach()
    return state


def plain(value: object) -> object:
    """Return a value as numbers, text, lists and dicts of them; whatever else becomes None.

    Paths become text, numpy's numbers plain ones.
    """
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, PathStandIn):
        return str(value)
    if isinstance(value, StandIn):
        if value.name in NAMESPACES:
            return plain(value.state)
        numbers = _numpy_values(value)
        return numbers[0] if numbers and len(numbers) == 1 else numbers
    if isinstance(value, Mapping):
        named = ((k, v) for k, v in value.items() if isinstance(k, (*KEYS, PathStandIn)))
        return {k if isinstance(k, (int, str)) else str(k): plain(v) for k, v in named}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return None


def _models(content: Mapping[str, object]) -> list[StandIn]:
    """Return the EMA model, then the live one, as far as they are there."""
    found = [content.get("ema"), content.get("model")]
    # Some versions before v5.0 kept the EMA in a pair with its update count.
    found = [f[0] if isinstance(f, (tuple, list)) and f else f for f in found]
    unwrapped = [
        _mapping(f, "_modules").get("module")
        if isinstance(f, StandIn) and f.name.endswith(WRAPPERS)
        else f
        for f in found
    ]
    return [model for model in unwrapped if isinstance(model, StandIn)]


def _refusal_of_layer(name: str, path: Path) -> TaskError:
    for network, names in OTHER_NETWORKS.items():
        if any(name.startswith(n) if n.endswith(".") else name == n for n in names):
            return checkpoint_error(
                path,
                f"is {network}: it holds a {shown_name(name)}",
                f"run it with the program that trained it, or {GIVE_ANOTHER}",
            )
    return checkpoint_error(
        path,
        f"holds a {shown_name(name)}, which is not part of YOLOv5's detection models, so it was "
        "not opened",
    )


def _image_size(options: Mapping[str, object]) -> int | None:
    """Return the size of training in pixels; v5.0 has a list of two, for training and testing."""
    size = options.get("imgsz", options.get("img_size"))
    size = size[0] if isinstance(size, list) and size else size
    return size if type(size) is int and 0 < size < MAX_IMAGE_SIZE else None


def _names(models: list[StandIn], definition: Mapping[str, object], path: Path) -> tuple[str, ...]:
    classes = definition.get("nc")
    if type(classes) is not int or not 0 < classes <= MAX_CLASSES:
        raise checkpoint_error(path, "does not say which classes it knows")
    # On several GPUs the names were put on a wrapper of the live model; only the EMA has them.
    names = next((found for model in models if (found := model.attribute("names"))), ())
    names = _numpy_values(names) or () if isinstance(names, StandIn) else names
    if isinstance(names, Mapping):
        numbered = {int(str(plain(number))): name for number, name in names.items()}
        names = [name for _, name in sorted(numbered.items())]
    if not isinstance(names, (list, tuple)):
        raise checkpoint_error(path, "does not say which classes it knows")
    words = [plain(name) for name in names]
    if not all(isinstance(word, (str, int, float)) for word in words):
        raise checkpoint_error(path, "names its classes by something other than text")
    # Without any, v7.0 numbers the classes.
    return tuple(map(str, words)) or tuple(map(str, range(classes)))


def _numpy_values(value: StandIn) -> list[object] | None:
    """Return the numbers or texts of a numpy scalar or array, flat; None for anything else."""
    if value.name.endswith("multiarray.scalar") and len(value.arguments) == 2:
        kind, content = value.arguments
    elif value.name.endswith("multiarray._reconstruct") and isinstance(value.state, tuple):
        *_, kind, _, content = (None, None, None, *value.state)
    else:
        return None
    if isinstance(content, list):  # an array of objects
        return [plain(item) for item in content]
    code = kind.arguments[0] if isinstance(kind, StandIn) and kind.arguments else None
    order = kind.state[1] if isinstance(kind, StandIn) and isinstance(kind.state, tuple) else "<"
    if not isinstance(code, str) or not isinstance(content, bytes):
        return None
    sign = ">" if order == ">" else "<"
    if code[:1] in ("U", "S") and code[1:].isdigit():
        width = int(code[1:]) * (4 if code[0] == "U" else 1)
        codec = ("utf-32-be" if sign == ">" else "utf-32-le") if code[0] == "U" else "utf-8"
        texts = [content[at : at + width] for at in range(0, len(content), max(width, 1))]
        return [text.decode(codec).rstrip("\0") for text in texts]
    form = NUMBER_FORMATS.get(code)
    if form is None or len(content) % struct.calcsize(form):
        return None
    return [number for (number,) in struct.iter_unpack(sign + form, content)]


def _tree(module: StandIn, path: str) -> Iterator[tuple[str, StandIn]]:
    """Yield a module and those below it, with their paths as in state-dict keys."""
    yield path, module
    for name, child in _mapping(module, "_modules").items():
        if len(str(name)) > MAX_NAME:
            raise ValueError("a layer's name is too long")
        if isinstance(child, StandIn):
            yield from _tree(child, f"{path}.{name}" if path else str(name))


def _mapping(module: StandIn, attribute: str) -> Mapping[str, object]:
    value = module.attribute(attribute)
    return value if isinstance(value, Mapping) else {}
