"""Whether a training step is compiled and recorded: the setting `compile`."""

from __future__ import annotations

import importlib.util
import logging
import shutil
import sysconfig
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from settings.train import TrainSettings
from training.recording import WARM_UPS, RecordedStep
from training.step import BatchGradients, TrainingStep
from utils.cuda_graphs import CudaGraphs
from utils.distributed import DistContext
from utils.environment import named_compiler
from utils.errors import Code, TaskError, first_line

log = logging.getLogger(__name__)

RECORDING_STEPS = 25 * (WARM_UPS + 1)
"""Steps from which `auto` records on a GPU. A recording costs the host about one step of launches
for each shape of a batch, three or four shapes as a rule, and saves one at every later step."""
COMPILE_SECONDS = 125.0
"""Time of one core to compile yolov5n and its loss, measured for a CPU (docs/performance.md)."""
SAVED_SECONDS = 0.03e-3
"""Estimated time on a GPU that a compiled step of yolov5n saves for an image of 640 x 640 pixels:
normalisation and activation in one pass over a map, about 11 of 45 bytes that are moved for each
of 11.8 million outputs of convolutions, at 4 TB/s. Not measured."""
MOST_COMPILED = 8
"""Shapes that a function is compiled for (torch's own limit); others are computed as they come."""


@dataclass(frozen=True)
class Plan:
    """What is done with the training step, and why in words."""

    compiled: bool
    recorded: bool
    reason: str

    def __str__(self) -> str:
        done = ["compiled"] * self.compiled + ["recorded as CUDA graphs"] * self.recorded
        return f"{' and '.join(done) or 'operator by operator'} ({self.reason})"


def plan(settings: TrainSettings, device: torch.device, processes: DistContext, steps: int) -> Plan:
    """Decide for a training of `steps` more steps.

    `false` does neither, `true` compiles and on a GPU records. `auto` records on a GPU from
    `RECORDING_STEPS` on, and compiles where all steps together are estimated to save more than
    `COMPILE_SECONDS`; on a CPU it does neither. Raises TaskError(CONFIG) if `true` cannot be done.
    """
    word, on_gpu = settings.compile, device.type == "cuda"
    if word == "false":
        return Plan(False, False, "compile is false")
    if processes.is_distributed:
        return Plan(False, False, "several processes train together")
    missing = missing_tool(device)
    if word == "true":
        if missing:
            raise TaskError(
                Code.CONFIG,
                f"compile is true, but {missing} is missing here: install it, or set compile to "
                "auto, which goes on without.",
            )
        return Plan(True, on_gpu, "compile is true")
    if not on_gpu:
        return Plan(False, False, "on a CPU compiling has to be asked for: compile true")
    if steps < RECORDING_STEPS:
        return Plan(False, False, f"{steps} steps are too few to pay for more")
    saved = steps * settings.batch_size * (settings.img_size / 640) ** 2 * SAVED_SECONDS
    if settings.multi_scale or settings.rect or saved < COMPILE_SECONDS:
        many = settings.multi_scale or settings.rect
        why = "batches have many shapes" if many else f"{steps} steps are too few to pay for it"
        return Plan(False, True, f"not compiled: {why}")
    if missing:
        return Plan(False, True, f"not compiled: {missing} is missing")
    return Plan(True, True, f"{steps} steps pay for it")


def missing_tool(device: torch.device) -> str:
    """Return what torch needs to compile for a device and does not find, '' if all is there."""
    on_gpu = device.type == "cuda"
    if on_gpu and importlib.util.find_spec("triton") is None:
        return "the Python package triton"
    variable, names = ("CC", ("gcc", "clang")) if on_gpu else ("CXX", ("g++", "clang++"))
    named = named_compiler(variable)
    if not any(map(shutil.which, (named,) if named else names)):
        return f"a compiler ({' or '.join(names)}, or what {variable} names)"
    header = Path(sysconfig.get_path("include")) / "Python.h"
    return "" if header.is_file() else f"Python's header {header}"


def prepared_step(step: TrainingStep, chosen: Plan) -> TrainingStep | RecordedStep:
    """Return the step as it was planned; nothing is compiled or recorded before its first call."""
    if chosen.compiled:
        step = replace(step, gradients=compiled(step.gradients))
    return RecordedStep(step, CudaGraphs(step.gradients.device)) if chosen.recorded else step


def compiled(
    gradients: BatchGradients, backend: str | Callable[..., Any] = "inductor"
) -> BatchGradients:
    """Return the same with network and loss compiled, the targets padded so that shapes repeat."""
    return replace(
        gradients,
        model=_Compiled(gradients.model, backend),
        criterion=_Compiled(gradients.criterion, backend),
        padded=True,
    )


class _Compiled:
    """A function compiled for the first few shapes of its tensors.

    For others it is called as it is, and always once it could not be compiled, which the log says.
    """

    def __init__(self, function: Callable[..., Any], backend: str | Callable[..., Any]) -> None:
        self._plain = function
        # Its method, not the module: a state dict keeps its names.
        method = getattr(function, "forward", function)
        self._compiled: Callable[..., Any] = torch.compile(method, dynamic=False, backend=backend)
        self._shapes: set[object] = set()

    def __call__(self, *given: Any, **more: Any) -> Any:
        """Call the function."""
        shapes = str([_shapes_of(one) for one in given])
        if shapes not in self._shapes and len(self._shapes) >= MOST_COMPILED:
            return self._plain(*given, **more)
        self._shapes.add(shapes)
        try:
            return self._compiled(*given, **more)
        except Exception as error:
            if not type(error).__module__.startswith(("torch._dynamo", "torch._inductor")):
                raise
            log.warning(
                "torch cannot compile the training step (%s): it goes on without", first_line(error)
            )
            self._compiled = self._plain
            return self._plain(*given, **more)


def _shapes_of(given: object) -> object:
    if isinstance(given, (list, tuple)):
        return [_shapes_of(one) for one in given]
    return (tuple(given.shape), given.dtype) if isinstance(given, Tensor) else None
