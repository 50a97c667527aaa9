"""Which engine computes a task: the one named, or with `auto` the fastest that repays its trial."""

from __future__ import annotations

import importlib.util
import logging
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from exporting.neck_onnx import write_neck
from inference.backends import onnxruntime as onnx_runtime
from inference.backends import openvino as open_vino
from inference.backends import tensorrt as tensor_rt
from inference.backends.agreement import Agreement, agreement
from inference.backends.base import AUTO, TORCH, BackendSpec, Engine, first_line
from inference.backends.sample import by_shape, upper_half
from inference.batching import WorkerPool
from models.detector import Detector
from utils.errors import Code, TaskError

log = logging.getLogger(__name__)

BACKENDS: dict[str, Callable[[Path, BackendSpec], Engine]] = {
    open_vino.NAME: open_vino.build_openvino,
    onnx_runtime.NAME: onnx_runtime.build_onnxruntime,
    tensor_rt.NAME: tensor_rt.build_tensorrt,
}
ON_A_CPU = (open_vino.NAME, onnx_runtime.NAME)
"""What `auto` tries there."""
FEW_IMAGES = 64
"""Fewer are not worth the timing."""
LONG_ENOUGH = 240.0
"""Seconds that torch must need for a task before `auto` tries others. Trying takes 11 to 17 for
yolov5s at 640 pixels on two cores; the least gain that is taken saves 22 of these 240."""
MOST_OF_A_TASK = 0.05
"""Share of a task's expected time after which no further engine is tried."""
GAIN = 1.1
"""Times as fast as torch that `auto` asks for; what is less may be chance."""
TIMED_IMAGES = 8
"""Images at most in a batch that is timed."""
ROUNDS = 2
"""Measurements of each side, in turns; the least counts."""

Look = Callable[[Engine | None, Tensor], object]
"""The network's whole answer to images float32 [b, 3, h, w], by an engine or, for None, torch."""


@dataclass(frozen=True)
class BenchmarkTarget:
    """A network that is to be computed, and how a task does it."""

    network: Detector
    """Fused, on its device."""
    around: BackendSpec
    look: Look
    lanes: WorkerPool


def choose_engine(
    wish: str, subject: BenchmarkTarget, samples: Sequence[Tensor], *, images: int
) -> Engine | None:
    """The engine for the setting `wish`, checked on the samples [3, h, w]; None for torch.

    `images` is how many the task will look at. With `auto`, what cannot be built, disagrees or
    does not repay its trial is a line of the log. Raises TaskError where a named engine cannot be
    had: CONFIG for a missing package or device, MODEL where it cannot be built or disagrees.
    """
    if wish == TORCH:
        return None
    if not samples:
        log.info("engine %s: no image could be read to compare it on: torch computes", wish)
        return None
    if wish != AUTO:
        engine, shown = checked(wish, subject, samples)
        log.info("engine: %s in %s; beside torch: %s", wish, engine.arithmetic, shown)
        return engine
    if subject.around.device.type != "cpu":
        log.info("engine auto: torch, as always on a GPU")
        return None
    return _fastest(subject, samples, images)


def checked(
    name: str, subject: BenchmarkTarget, samples: Sequence[Tensor]
) -> tuple[Engine, Agreement]:
    """An engine that agrees with torch on the samples, and how closely; TaskError if there is none.

    The network goes through a folder that is gone afterwards.
    """
    around = subject.around
    try:
        with tempfile.TemporaryDirectory(prefix="engine-") as folder:
            trunk = Path(folder) / "trunk.onnx"
            half = name == onnx_runtime.NAME and around.arithmetic == "float16"
            write_neck(subject.network, trunk, half=half)
            engine = BACKENDS[name](trunk, around)
    except TaskError:
        raise
    # The exporter and the engines raise many kinds.
    except Exception as error:
        raise TaskError(
            Code.MODEL,
            f"The engine {name} cannot be built for this network ({first_line(error)}): set engine "
            "to torch.",
        ) from error
    # A part of one image as well: an engine that has learnt a shape by heart is found out.
    batches = by_shape(samples) + by_shape([upper_half(samples[0], around.stride)])
    shown = agreement(engine, subject.network, [one.to(around.device) for one in batches])
    if not shown.agrees:
        raise TaskError(
            Code.MODEL,
            f"The engine {name} does not compute what torch does ({shown}): set engine to torch, "
            "or take another version of its package.",
        )
    return engine, shown


def installed(names: Sequence[str]) -> list[str]:
    """Those of the engines whose package is there, without importing any."""
    return [name for name in names if importlib.util.find_spec(name) is not None]


def seconds_an_image(subject: BenchmarkTarget, engine: Engine | None, batch: Tensor) -> float:
    """Time of one batch [b, 3, h, w] in every lane at once, per image."""
    count = subject.lanes.count
    began = time.perf_counter()
    for _ in subject.lanes.map(lambda one: subject.look(engine, one), [batch] * count):
        pass
    return (time.perf_counter() - began) / (count * len(batch))


def _fastest(subject: BenchmarkTarget, samples: Sequence[Tensor], images: int) -> Engine | None:
    """What `auto` takes on a CPU: torch, unless another gains more than its trial costs."""
    names = installed(ON_A_CPU)
    if not names or images < FEW_IMAGES:
        why = f"{images} images are few" if names else f"neither {' nor '.join(ON_A_CPU)} is there"
        log.info("engine auto: torch; %s", why)
        return None
    began = time.perf_counter()
    batch = _batch_to_time(samples, subject.around.batch_size)
    seconds_an_image(subject, None, batch)  # the first look sets things up
    expected = images * seconds_an_image(subject, None, batch)
    if expected < LONG_ENOUGH:
        log.info("engine auto: torch; its %.0f s are too few to try others", expected)
        return None
    best: Engine | None = None
    best_gain = GAIN
    for name in names:
        if time.perf_counter() - began > MOST_OF_A_TASK * expected:
            log.info("engine auto: %s is not tried, choosing has taken long enough", name)
            continue
        try:
            engine, _ = checked(name, subject, samples)
        except TaskError as error:
            log.info("engine auto: without %s: %s", name, error)
            continue
        gain = _gain(subject, engine, batch)
        log.info("engine auto: %s in %s is %.2f times as fast", name, engine.arithmetic, gain)
        if gain > best_gain:
            best, best_gain = engine, gain
    log.info(
        "engine auto: %s; choosing took %.1f s of about %.0f s",
        best.name if best else TORCH,
        time.perf_counter() - began,
        expected,
    )
    return best


def _gain(subject: BenchmarkTarget, engine: Engine, batch: Tensor) -> float:
    """How many times as fast as torch an engine is, measured in turns."""
    seconds_an_image(subject, engine, batch)
    own, theirs = [], []
    for _ in range(ROUNDS):
        theirs.append(seconds_an_image(subject, None, batch))
        own.append(seconds_an_image(subject, engine, batch))
    return min(theirs) / min(own)


def _batch_to_time(samples: Sequence[Tensor], batch_size: int) -> Tensor:
    """The largest batch of one shape among the samples, filled up with repeats."""
    largest = max(by_shape(samples), key=len)
    count = min(batch_size, TIMED_IMAGES)
    return torch.cat([largest] * -(-count // len(largest)))[:count]
