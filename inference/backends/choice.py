"""The choice of a backend: the one named, or with `auto` the fastest that repays its trial."""

from __future__ import annotations

import importlib
import importlib.util
import logging
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from data.images import ImageError, read_image
from exporting.neck_onnx import write_neck
from inference.backends.base import AUTO, TORCH, Backend, BackendSpec, BackendType
from inference.backends.parity import Parity, check_parity
from inference.batching import WorkerPool, bucket_by_shape
from inference.network import Network
from ops.letterbox import Letterbox, apply_letterbox
from settings.detect import BACKENDS as BACKEND_NAMES
from utils.errors import Code, TaskError, first_line

log = logging.getLogger(__name__)


def _load(name: str) -> BackendType:
    backend = importlib.import_module(f"{__package__}.{name}").BACKEND
    assert isinstance(backend, BackendType)
    return backend


BACKENDS = {name: _load(name) for name in BACKEND_NAMES}
"""By the choices of the setting `engine`, except torch and auto."""
AUTO_ON_CPU = ("openvino", "onnxruntime")
"""Backends that `auto` tries on a CPU, in this order."""
MIN_IMAGES = 64
"""Fewer are not worth the timing."""
MIN_SECONDS = 240.0
"""Seconds that torch must need for a task before `auto` tries others. Trying takes 11 to 17 for
yolov5s at 640 pixels on two cores; the least gain that is accepted saves 22 of these 240."""
MAX_TRIAL_SHARE = 0.05
"""Share of a task's expected time after which no further backend is tried."""
MIN_GAIN = 1.1
"""Speed over torch's that `auto` asks for; less may be chance."""
TIMED_IMAGES = 8
"""Images at most in a batch that is timed."""
ROUNDS = 2
"""Measurements of each side, in turns; the least counts."""
SAMPLES = 4
"""Images that a backend is checked on."""
SAMPLE_TRIES = 16
"""Files opened at most in search of readable ones."""


@dataclass(frozen=True)
class BenchmarkTarget:
    """A network, what a backend for it is built for, and the workers that will call it."""

    network: Network
    spec: BackendSpec
    pool: WorkerPool


def choose_backend(
    name: str, target: BenchmarkTarget, samples: Sequence[Tensor], *, images: int
) -> Backend | None:
    """Return the backend `name` or `auto`, checked on samples [3, h, w]; None for torch.

    `images` is the number that the task will predict. With `auto` a backend that cannot be built,
    fails the parity check or does not repay its trial is a line of the log. A named one raises
    TaskError: CONFIG for a missing package or device, MODEL if it cannot be built or fails the
    check.
    """
    if not samples:
        log.info("engine %s: no image could be read to compare it on: torch computes", name)
        return None
    if name != AUTO:
        backend, parity = build_checked(name, target, samples)
        log.info("engine: %s in %s; beside torch: %s", name, backend.arithmetic, parity)
        return backend
    if target.spec.device.type != "cpu":
        log.info("engine auto: torch, as always on a GPU")
        return None
    return _fastest(target, samples, images)


def build_checked(
    name: str, target: BenchmarkTarget, samples: Sequence[Tensor]
) -> tuple[Backend, Parity]:
    """Build a backend and check its parity on the samples. Raises TaskError if either fails.

    The network passes through a temporary folder.
    """
    spec, detector = target.spec, target.network.detector
    try:
        with tempfile.TemporaryDirectory(prefix="engine-") as folder:
            path = Path(folder) / "neck.onnx"
            half = BACKENDS[name].half_weights and spec.arithmetic == "float16"
            write_neck(detector, path, half=half)
            backend = BACKENDS[name].build(path, spec)
    except TaskError:
        raise
    # The exporter and the backends raise many kinds.
    except Exception as error:
        raise TaskError(
            Code.MODEL,
            f"The engine {name} cannot be built for this network ({first_line(error)}): set engine "
            "to torch.",
        ) from error
    # A part of one image as well: a backend that is fixed to one shape is found out.
    half_height = max(samples[0].shape[1] // spec.stride // 2, 1) * spec.stride
    batches = [*_by_shape(samples), samples[0][None, :, :half_height]]
    parity = check_parity(backend, detector, [batch.to(spec.device) for batch in batches])
    if not parity.passed:
        raise TaskError(
            Code.MODEL,
            f"The engine {name} does not compute what torch does ({parity}): set engine to torch, "
            "or take another version of its package.",
        )
    return backend, parity


def installed(names: Sequence[str]) -> list[str]:
    """Return the backends whose package is installed, without importing any."""
    return [name for name in names if importlib.util.find_spec(name)]


def seconds_per_image(target: BenchmarkTarget, backend: Backend | None, batch: Tensor) -> float:
    """Measure one batch [b, 3, h, w] in every worker at once, per image; None is torch."""
    network, count = replace(target.network, backend=backend), target.pool.count
    began = time.perf_counter()
    for _ in target.pool.map(network, [batch] * count):
        pass
    return (time.perf_counter() - began) / (count * len(batch))


def _fastest(target: BenchmarkTarget, samples: Sequence[Tensor], images: int) -> Backend | None:
    """Return torch (None) on a CPU, unless another backend gains more than its trial costs."""
    names = installed(AUTO_ON_CPU)
    if not names or images < MIN_IMAGES:
        reason = (
            f"too few images ({images})" if names else f"no {' or '.join(AUTO_ON_CPU)} installed"
        )
        log.info("engine auto: torch; %s", reason)
        return None
    began = time.perf_counter()
    largest, count = max(_by_shape(samples), key=len), min(target.spec.batch_size, TIMED_IMAGES)
    batch = torch.cat([largest] * -(-count // len(largest)))[:count]
    seconds_per_image(target, None, batch)  # warm-up
    expected = images * seconds_per_image(target, None, batch)
    if expected < MIN_SECONDS:
        log.info("engine auto: torch; its %.0f s are too few to try others", expected)
        return None
    best: Backend | None = None
    best_gain = MIN_GAIN
    for name in names:
        if time.perf_counter() - began > MAX_TRIAL_SHARE * expected:
            log.info("engine auto: %s is not tried, choosing has taken long enough", name)
            continue
        try:
            backend, _ = build_checked(name, target, samples)
        except TaskError as error:
            log.info("engine auto: without %s: %s", name, error)
            continue
        gain = _gain(target, backend, batch)
        log.info("engine auto: %s in %s is %.2f times as fast", name, backend.arithmetic, gain)
        if gain > best_gain:
            best, best_gain = backend, gain
    name, seconds = best.name if best else TORCH, time.perf_counter() - began
    log.info("engine auto: %s; choosing took %.1f s of about %.0f s", name, seconds, expected)
    return best


def _gain(target: BenchmarkTarget, backend: Backend, batch: Tensor) -> float:
    """Return the speed of a backend over torch's, measured in turns."""
    seconds_per_image(target, backend, batch)  # warm-up
    turns = [None, backend] * ROUNDS
    seconds = [seconds_per_image(target, one, batch) for one in turns]
    return min(seconds[::2]) / min(seconds[1::2])


def sample_images(
    paths: Sequence[str],
    plan_for: Callable[[tuple[int, int]], Letterbox],
    *,
    upright: bool = False,
) -> list[Tensor]:
    """Read up to `SAMPLES` network inputs float32 [3, h, w] (RGB, 0 to 1), spread over `paths`.

    `plan_for` returns the letterbox of a (height, width); `upright` as in `read_image`.
    """
    step = max(len(paths) // SAMPLES, 1)
    # The first pass goes through the whole list, the next ones begin one further each.
    order = [at for start in range(step) for at in range(start, len(paths), step)]
    found: list[Tensor] = []
    for position in order[:SAMPLE_TRIES]:
        try:
            image = read_image(paths[position], upright=upright)
        except (ImageError, MemoryError):
            continue
        boxed = apply_letterbox(image, plan_for((image.shape[0], image.shape[1])))
        found.append(torch.from_numpy(boxed).permute(2, 0, 1).flip(0).float().div_(255))
        if len(found) == SAMPLES:
            break
    return found


def _by_shape(samples: Sequence[Tensor]) -> list[Tensor]:
    """Return the samples [3, h, w] as batches [b, 3, h, w] of one shape each."""
    return [torch.stack(group) for group in bucket_by_shape(samples, lambda s: s.shape, SAMPLES)]
