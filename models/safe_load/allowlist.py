"""Names that a YOLOv5 weight file may hold, and the inert value that each becomes.

Layers, paths and numpy values become stand-ins; tensors are rebuilt by functions that check every
number against the storage it refers to. Blocks of model files come from `models.registry`. Any
other name is inert: nothing of its object is kept. Those of Python, torch and numpy that can act
are refused all the same, for the file is an attack on programs that unpickle it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache, partial

import torch
from torch import Tensor

from models.registry import pickled_names
from models.safe_load.pickle_reader import KEYS, Inert, Name, Refused, StandIn

_MODULES = {
    "models.yolo": "DetectionModel Model Detect",
    "models.common": "TransformerLayer",
    "torch.nn.modules.conv": "Conv2d",
    "torch.nn.modules.batchnorm": "SyncBatchNorm",
    "torch.nn.modules.activation": (
        "SiLU LeakyReLU Hardswish ReLU ReLU6 ELU GELU Mish Sigmoid Tanh Hardsigmoid "
        "MultiheadAttention"
    ),
    "torch.nn.modules.container": "Sequential ModuleList",
    "torch.nn.modules.linear": "Linear NonDynamicallyQuantizableLinear _LinearWithBias",
    "torch.nn.parallel.data_parallel": "DataParallel",
    "torch.nn.parallel.distributed": "DistributedDataParallel",
    # Activations that earlier versions brought along for versions of torch without them.
    "utils.activations": "SiLU Hardswish Mish MemoryEfficientMish Swish MemoryEfficientSwish",
}
_VALUES = {
    "argparse": "Namespace",
    "types": "SimpleNamespace",
    "numpy": "ndarray dtype",
    "numpy.core.multiarray": "_reconstruct scalar",
    "numpy._core.multiarray": "_reconstruct scalar",
}
_PATHS = dict.fromkeys(
    ("pathlib", "pathlib._local"),  # the second one in Python 3.13
    "PosixPath WindowsPath PurePosixPath PureWindowsPath Path PurePath",
)
_PYTHON_2 = {"copy_reg", "commands", "cPickle", "urllib2", "popen2", "new"}
_ACTING = sys.stdlib_module_names | _PYTHON_2 | {"torch", "numpy"}
"""Packages of which only the names below are inert."""
_INERT = frozenset(
    f"{module}.{name}"
    for module, names in {
        "builtins": "bool bytes complex dict float frozenset getattr int list object range slice "
        "str tuple",
        "collections": "Counter deque",
        "datetime": "date datetime time timedelta timezone",
        "decimal": "Decimal",
        "fractions": "Fraction",
        "functools": "partial",
        "logging": "Logger getLogger",
        "re": "_compile",
        "uuid": "UUID",
        "numpy": "bool_ bool float16 float32 float64 int8 int16 int32 int64 str_ uint8",
        "numpy.core.numeric": "_frombuffer",
        "numpy._core.numeric": "_frombuffer",
        "torch": " ".join(
            name for name, value in vars(torch).items() if isinstance(value, torch.dtype)
        ),
        "torch.torch_version": "TorchVersion",
    }.items()
    for name in names.split()
)
_INERT_PACKAGES = (
    *("numpy.dtypes.", "numpy.random.", "torch.amp.", "torch.ao.", "torch.cuda.amp."),
    *("torch.distributed.algorithms.", "torch.nn.", "torch.optim.", "torch.quantization."),
    "torch.utils.hooks.",
)
_STORAGES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}


class ModuleStandIn(StandIn):
    """Placeholder of a layer, whose state holds parameters, buffers and children."""


class PathStandIn(StandIn):
    """Placeholder of a file path."""

    def __str__(self) -> str:
        """Return the path with forward slashes."""
        return "/".join(str(part) for part in self.arguments).replace("//", "/")


@dataclass(frozen=True, eq=False)
class Storage:
    """Numbers behind one or more tensors: a flat tensor [n]."""

    numbers: Tensor


@cache
def known_names() -> Mapping[str, Name]:
    """Return every name that a weight file may use, by its dotted path."""
    return {name.path: name for name in _names()}


def unknown_name(path: str) -> Name:
    """Return an inert name for one that nobody reads; refuse those that can act.

    The pip package yolov5 has the official names below its own.
    """
    path = path.removeprefix("yolov5.")
    if path in known_names():
        return known_names()[path]
    package, *inner = path.split(".")
    foreign = package not in _ACTING and not any(part.startswith("__") for part in inner)
    if not (foreign or path in _INERT or path.startswith(_INERT_PACKAGES)):
        raise Refused(
            f"asks for {shown_name(path)}, which a YOLOv5 detection model does not need, so it was "
            "not opened"
        )
    return Name(path, partial(Inert, path))


def shown_name(path: str) -> str:
    """Return a dotted name of a file as one short line of ASCII."""
    shown = path if len(path) <= 100 else path[:97] + "..."
    return shown.encode("ascii", "backslashreplace").decode().replace("\n", " ")


def _names() -> Iterator[Name]:
    kinds: tuple[tuple[type[StandIn], Mapping[str, str]], ...] = (
        (ModuleStandIn, _MODULES),
        (StandIn, _VALUES),
        (PathStandIn, _PATHS),
    )
    for path in pickled_names():
        yield Name(path, partial(_stand_in, ModuleStandIn, path))
    for kind, table in kinds:
        for module, names in table.items():
            for name in names.split():
                path = f"{module}.{name}"
                yield Name(path, partial(_stand_in, kind, path))
    for name, dtype in _STORAGES.items():
        yield Name(f"torch.{name}", partial(_no_storage_by_call, dtype))
    for path, make in _BUILDERS.items():
        yield Name(path, make)


def storage_dtype(name: object) -> torch.dtype:
    """Return the dtype of a storage class; refuse other names."""
    dtype = _STORAGES.get(name.path.removeprefix("torch.")) if isinstance(name, Name) else None
    if dtype is None:
        raise Refused("has a tensor of an unknown number format")
    return dtype


def _stand_in(kind: type[StandIn], path: str, *arguments: object) -> StandIn:
    return kind(path, arguments)


def _no_storage_by_call(dtype: torch.dtype, *arguments: object) -> object:
    raise Refused(f"makes a {dtype} storage from nothing")


def _rebuilt_tensor(
    storage: object, offset: object, size: object, stride: object, *_: object
) -> Tensor:
    """Return a view into a storage; gradients, hooks and metadata are left out."""
    if not isinstance(storage, Storage):
        raise Refused("has a tensor without numbers")
    shape, steps = _counts(size), _counts(stride)
    start = _counts((offset,))[0]
    if len(shape) != len(steps):
        raise Refused("has a tensor whose size and stride disagree")
    last = start + sum((n - 1) * step for n, step in zip(shape, steps, strict=True))
    if 0 not in shape and last >= storage.numbers.numel():
        raise Refused("has a tensor that is larger than the numbers stored for it")
    return storage.numbers.as_strided(shape, steps, start)


def _counts(values: object = ()) -> tuple[int, ...]:
    if not isinstance(values, (tuple, list)) or len(values) > 16:
        raise Refused("has a tensor without a size")
    if not all(type(value) is int and 0 <= value < 2**48 for value in values):
        raise Refused("has a tensor of an impossible size")
    return tuple(values)


def _rebuilt_parameter(tensor: object, *_: object) -> Tensor:
    if not isinstance(tensor, Tensor):
        raise Refused("has a parameter without a tensor")
    return tensor


def _ordered_dict(pairs: object = ()) -> dict[object, object]:
    if not isinstance(pairs, (tuple, list)):
        raise Refused("has an ordered mapping that is not one")
    result: dict[object, object] = {}
    for pair in pairs:
        if not isinstance(pair, (tuple, list)) or len(pair) != 2 or not isinstance(pair[0], KEYS):
            raise Refused("has an ordered mapping that is not one")
        result[pair[0]] = pair[1]
    return result


def _set(members: object = ()) -> set[object]:
    if not isinstance(members, (tuple, list)) or not all(isinstance(m, KEYS) for m in members):
        raise Refused("has a set of something other than words and numbers")
    return set(members)


def _device(*arguments: object) -> str:
    return ":".join(str(part) for part in arguments if isinstance(part, (str, int)))


def _encoded(text: object, codec: object = "latin1") -> bytes:
    """Return bytes, which old pickle protocols write as text."""
    if not isinstance(text, str) or codec not in ("latin1", "latin-1"):
        raise Refused("has bytes in an unknown form")
    return text.encode("latin-1")


_BUILDERS: Mapping[str, Callable[..., object]] = {
    "torch._utils._rebuild_tensor": _rebuilt_tensor,
    "torch._utils._rebuild_tensor_v2": _rebuilt_tensor,
    "torch._utils._rebuild_parameter": _rebuilt_parameter,
    "torch._utils._rebuild_parameter_with_state": _rebuilt_parameter,
    "torch.nn.parameter.Parameter": _rebuilt_parameter,
    "torch.Size": _counts,
    "torch.device": _device,
    "collections.OrderedDict": _ordered_dict,
    "collections.defaultdict": lambda *_: {},
    "builtins.set": _set,
    "_codecs.encode": _encoded,
}
