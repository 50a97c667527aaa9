"""Whether a written file computes what the network does, on which pictures, and how closely.

Legend: b images, n rows, o = 5 + classes (cx, cy, w, h in pixels, objectness, classes).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from exporting.options import ExportOptions
from models.detector import Detector

Array = NDArray[np.float32]
Run = Callable[[Array], Array]
"""Images [b, 3, h, w] (RGB, 0 to 1) to decoded rows [b, n, o], as the file computes them."""
Shape = tuple[int, int, int]
"""(batch, height, width)."""


class Disagreement(Exception):
    """The file computes something else than the network; the text says at which input."""


@dataclass(frozen=True)
class Tolerance:
    """How far a row may be off: a box in pixels plus a share of its longer side, and a score."""

    pixels: float
    share: float
    score: float


ROUNDING = Tolerance(pixels=0.05, share=1e-3, score=1e-3)
"""For float32: two programs add up in another order."""
HALF = Tolerance(pixels=2.0, share=0.02, score=0.02)
"""For float16 weights. Trained networks stay within half of it (docs/export.md)."""


def tolerance_of(options: ExportOptions) -> Tolerance:
    """What the file may differ by, given the precision of its weights."""
    return HALF if options.half else ROUNDING


class Decoded(nn.Module):
    """Images [b, 3, h, w] to decoded rows [b, n, o], as one module to convert.

    A `half` network computes in float16 from the first layer to the raw maps; images come in and
    boxes go out as float32, for a coordinate in float16 is half a pixel off from 512 on.
    """

    def __init__(self, detector: Detector, *, half: bool) -> None:
        super().__init__()
        self.detector = detector.fused().float()
        self.half_precision = half
        if half:
            self.detector.half()
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        """The decoded rows, float32."""
        pixels = images.half() if self.half_precision else images
        return self.detector.decode(self.detector(pixels))


def reference(detector: Detector, device: torch.device) -> Run:
    """The network itself, in float32 on `device`, as a function of arrays."""
    network = detector.fused().float().to(device)

    def run(images: Array) -> Array:
        # The tensor cores' shortened float32 would be a difference of its own.
        with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
            rows: Array = network.predict(torch.from_numpy(images).to(device)).cpu().numpy()
        return rows

    return run


def shapes_to_try(stride: int, options: ExportOptions) -> tuple[Shape, ...]:
    """The inputs to compare at: two sizes and two batches, or the one that a fixed file takes."""
    asked = (options.batch_size, *options.size)
    if not options.dynamic:
        return (asked,)
    small = ((1, 4 * stride, 4 * stride), (2, 2 * stride, 5 * stride))
    return (*small, asked) if options.batch_size > 2 else small


def largest_difference(
    found: Run,
    expected: Run,
    *,
    channels: int,
    shapes: Sequence[Shape],
    tolerance: Tolerance,
) -> float:
    """Compare two programs on pictures of every shape; the largest difference of any output.

    Raises `Disagreement` naming the shape when a row is off by more than the tolerance. Float32
    is also tried on noise; in half precision noise, which no camera gives, says little.
    """
    generator = np.random.default_rng(0)
    worst = 0.0
    for batch, height, width in shapes:
        kinds = [_pictures] if tolerance is HALF else [_pictures, _noise]
        for make in kinds:
            images = make((batch, channels, height, width), generator)
            mine, theirs = found(images), expected(images)
            if not _close(mine, theirs, tolerance):
                raise Disagreement(f"{batch} image(s) of {height}x{width}")
            worst = max(worst, float(np.abs(mine - theirs).max(initial=0)))
    return worst


def _noise(shape: Sequence[int], generator: np.random.Generator) -> Array:
    return generator.random(shape, dtype=np.float32)


def _pictures(shape: Sequence[int], generator: np.random.Generator) -> Array:
    """A gradient with plain rectangles on it, [b, channels, h, w]: edges and areas, as seen."""
    channels, height, width = shape[1:]
    ramp = np.linspace(0, 1, width, dtype=np.float32) * np.linspace(0, 1, height)[:, None]
    images = np.broadcast_to(ramp, shape).astype(np.float32)
    for image in images:
        for _ in range(6):
            top, high = generator.integers(0, height), generator.integers(1, height + 1)
            left, wide = generator.integers(0, width), generator.integers(1, width + 1)
            colour = generator.random((channels, 1, 1), dtype=np.float32)
            image[:, top : top + high, left : left + wide] = colour
    return images


def _close(found: Array, expected: Array, tolerance: Tolerance) -> bool:
    if found.shape != expected.shape or not np.isfinite(found).all():
        return False
    side = expected[..., 2:4].max(axis=-1, keepdims=True)
    boxes = np.abs(found[..., :4] - expected[..., :4]) <= tolerance.pixels + tolerance.share * side
    scores = np.abs(found[..., 4:] - expected[..., 4:]) <= tolerance.score
    return bool(boxes.all() and scores.all())
