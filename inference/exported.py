"""Exported files as networks: ONNX in ONNX Runtime or OpenVINO, OpenVINO's own; on the CPU."""

from __future__ import annotations

import ast
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import onnx
import torch
from torch import Tensor

from inference.backends.base import AUTO, TORCH, BackendSpec, Run
from inference.backends.choice import BACKENDS
from inference.graphs import NetworkOutput
from utils.errors import Code, TaskError, first_line, optional_package
from utils.official_weights import missing_weights
from utils.safe_yaml import load_yaml

log = logging.getLogger(__name__)

Result = TypeVar("Result")

RUNTIMES = {".onnx": ("onnxruntime", "openvino"), ".xml": ("openvino",)}
"""By the file's ending, the engines that run it; the first one unless the settings name another."""
CPU = torch.device("cpu")


@dataclass(frozen=True)
class _Input:
    """What a file says of itself: its input [b, 3, h, w] with 0 for a free side, and metadata."""

    shape: tuple[int, ...]
    half: bool
    metadata: Mapping[str, object]


@dataclass(frozen=True, eq=False)
class ExportedNetwork:
    """A file with the calls of `Network` that need no head maps; images as there."""

    path: Path
    run: Run
    batch_size: int
    """Images that the file takes at a time; 0 for any number."""
    fixed_size: tuple[int, int] | None
    """(height, width) of its images; None for any multiples of the stride."""
    stride: int
    class_names: tuple[str, ...]
    half: bool
    """Whether its images are float16."""
    device: torch.device = CPU

    @property
    def num_classes(self) -> int:
        """The number of classes."""
        return len(self.class_names)

    @property
    def levels(self) -> tuple[tuple[int, int], ...]:
        """Refuse: what needs the levels, test-time augmentation, needs the weights."""
        raise self._needs_weights("Test-time augmentation")

    def backbone_map(self, images: Tensor) -> Tensor:
        """Refuse: a file has no map but its rows."""
        raise self._needs_weights("This mining algorithm")

    def _needs_weights(self, what: str) -> TaskError:
        return TaskError(
            Code.CONFIG,
            f"{what} needs the network itself, not {self.path}: give the .pt file that it was "
            "exported from.",
        )

    def __call__(self, images: Tensor) -> NetworkOutput:
        """Return no maps, and the decoded rows of a batch. Raises TaskError(MODEL)."""
        pixels = self.pixels(images)
        count = self.batch_size or len(pixels)
        rows = []
        for part in pixels.split(count):
            blank = part.new_zeros(count - len(part), *part.shape[1:])
            rows.append(_rows(self.path, self.run, torch.cat((part, blank)), self.half))
        return [], torch.cat(rows)[: len(pixels)]

    def rows(self, images: Tensor) -> Tensor:
        """Return the decoded rows of a batch. Raises TaskError(MODEL)."""
        return self(images)[1]

    def in_range(self, work: Callable[[], Result], is_broken: Callable[[Result], bool]) -> Result:
        """Return the result of `work`: float32 and bfloat16 have the range for it."""
        return work()

    def pixels(self, images: Tensor) -> Tensor:
        """Return images as float32 from 0 to 1 on the CPU."""
        pixels = images.to(self.device)
        return pixels if pixels.is_floating_point() else pixels.float().div_(255)


def is_exported(path: Path) -> bool:
    """Whether `open_exported` is for a path: an .onnx or .xml file, or v7.0's OpenVINO folder."""
    return path.suffix.lower() in RUNTIMES or path.is_dir()


def open_exported(path: Path, engine: str, *, precision: str, threads: int) -> ExportedNetwork:
    """Open a file for `threads` that call it at once; a blank image shows that it is a detector.

    It computes in float32 unless `precision` is bfloat16 and OpenVINO runs it. Raises TaskError:
    CONFIG for a missing package or an engine that does not run it, MODEL for what is no detector.
    """
    path = _file_of(path)
    engines = RUNTIMES[path.suffix.lower()]
    name = engine if engine in engines else engines[0]
    if engine not in (TORCH, AUTO, name):
        raise TaskError(
            Code.CONFIG,
            f"The engine {engine} does not run {path}: set engine to {' or '.join(engines)}.",
        )
    try:
        described = (_onnx_input if path.suffix.lower() == ".onnx" else _openvino_input)(path)
        stride = int(str(described.metadata.get("stride", 32)))
        chosen = precision if precision == "bfloat16" and name == "openvino" else "float32"
        batch, _, *size = described.shape
        levels = ((0, 0),)  # of which backends take the number of outputs
        spec = BackendSpec(CPU, chosen, threads, batch or 1, max(size), stride, levels)
        run = BACKENDS[name].build(path, spec).run
    except TaskError:
        raise
    # Every runtime has exceptions of its own.
    except Exception as error:
        raise _unfit(path, f"cannot be opened by {name} ({first_line(error)})") from error
    if "nms" in described.metadata:
        raise _unfit(path, "ends in NMS, and the thresholds of this command could not act")
    blank = torch.zeros(batch or 1, 3, *(side or 4 * stride for side in size))
    rows = _rows(path, run, blank, described.half)
    known = _names(described.metadata)
    names = known or tuple(f"class{number}" for number in range(rows.shape[-1] - 5))
    if rows.ndim != 3 or len(rows) != len(blank) or rows.shape[-1] != 5 + len(names):
        shape = list(rows.shape)
        raise _unfit(path, f"gives {shape} for {len(names)} classes, no rows of a YOLOv5 detector")
    if not known:
        log.warning("note: %s names no classes: they are called class0 and so on", path)
    fixed = (size[0], size[1]) if all(size) else None
    return ExportedNetwork(path, run, batch, fixed, stride, names, described.half)


def _file_of(path: Path) -> Path:
    """Return the file, in a folder its only OpenVINO model."""
    found = sorted(path.glob("*.xml")) if path.is_dir() else [path]
    if len(found) != 1:
        what = f"{path} holds {len(found)} OpenVINO models (.xml): name one file of weights."
        raise TaskError(Code.MODEL, what)
    if not found[0].is_file():
        raise missing_weights(path)
    return found[0]


def _onnx_input(path: Path) -> _Input:
    model = onnx.load(path, load_external_data=False)
    (images,) = model.graph.input
    dims = images.type.tensor_type.shape.dim
    half = images.type.tensor_type.elem_type == onnx.TensorProto.FLOAT16
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    return _Input(tuple(dim.dim_value for dim in dims), half, metadata)


def _openvino_input(path: Path) -> _Input:
    openvino = optional_package("openvino", purpose="Running OpenVINO models")
    model = openvino.Core().read_model(str(path))
    (images,) = model.inputs
    shape = tuple(0 if dim.is_dynamic else dim.get_length() for dim in images.partial_shape)
    known = [key for key in ("stride", "names") if model.has_rt_info(["model_info", key])]
    metadata: dict[str, object] = {
        key: model.get_rt_info(["model_info", key]).astype(str) for key in known
    }
    beside = path.with_suffix(".yaml")  # where v7.0 notes them
    if not metadata and beside.is_file():
        written = load_yaml(beside.read_text("utf-8"))
        metadata = written if isinstance(written, dict) else {}
    return _Input(shape, images.get_element_type() == openvino.Type.f16, metadata)


def _names(metadata: Mapping[str, object]) -> tuple[str, ...]:
    """Return the class names by number, none where the file has none."""
    written = metadata.get("names")
    try:
        names = ast.literal_eval(written) if isinstance(written, str) else written
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        names = None
    if isinstance(names, dict):
        names = list(names.values())
    return tuple(map(str, names)) if isinstance(names, list) else ()


def _rows(path: Path, run: Run, pixels: Tensor, half: bool) -> Tensor:
    try:
        return run(pixels.half() if half else pixels)[0].float()
    except Exception as error:
        shape = list(pixels.shape)
        raise _unfit(path, f"fails on images of the shape {shape} ({first_line(error)})") from error


def _unfit(path: Path, reason: str) -> TaskError:
    return TaskError(
        Code.MODEL,
        f"{path} {reason}; give the .pt file that it was exported from, or a plain ONNX or "
        "OpenVINO file of export.py.",
    )
