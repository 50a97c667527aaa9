"""Parity check: whether an exported file computes what the network does, and how closely.

Legend: b images, n rows, o = 5 + classes (cx, cy, w, h in pixels, objectness, classes).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from exporting.options import ExportOptions
from models.detector import Detector
from utils.device import without_tf32

Array = NDArray[np.float32]
Run = Callable[[Array], Array]
"""Images [b, 3, h, w] (RGB, 0 to 1) to decoded rows [b, n, o]."""


class ParityError(Exception):
    """The file computes something else than the network; the text says at which input."""


@dataclass(frozen=True)
class Tolerance:
    """Largest error of a box, in pixels plus a share of its longer side, and of a score."""

    pixels: float
    share: float
    score: float


FLOAT32 = Tolerance(pixels=0.05, share=1e-3, score=1e-3)
"""Two programs add up in another order."""
FLOAT16 = Tolerance(pixels=2.0, share=0.02, score=0.02)
"""For float16 weights. Trained networks stay within half of it (docs/export.md)."""


@dataclass(frozen=True)
class ExportFormat:
    """A format: suffix of its files, writer of the unfused detector, runner for the parity check.

    `run` returns the file as a function; the detector supplies what the file lacks. `free_shape`:
    every file takes any batch and size. `advice` is what a user of the file has to know.
    """

    suffix: str
    write: Callable[[Detector, Path, ExportOptions], None]
    run: Callable[[Path, Detector, ExportOptions], Run]
    free_shape: bool = False
    advice: str = ""


class DecodedDetector(nn.Module):
    """Fused detector with decoding as one module: images [b, 3, h, w] to decoded rows [b, n, o].

    With `half` it computes in float16 up to the logits; a box in float16 would be half a pixel off.
    """

    def __init__(self, detector: Detector, *, half: bool) -> None:
        super().__init__()
        self.detector = detector.fused().float()
        self.half_precision = half
        if half:
            self.detector.half()
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        """Return the decoded rows, float32."""
        pixels = images.half() if self.half_precision else images
        return self.detector.decode(self.detector(pixels))


def detector_run(detector: Detector, device: torch.device) -> Run:
    """Return the network itself, in float32 on `device`, as a function of arrays."""
    network = detector.fused().float().to(device)

    def run(images: Array) -> Array:
        with without_tf32():
            rows: Array = network.predict(torch.from_numpy(images).to(device)).cpu().numpy()
        return rows

    return run


def max_difference(file: Run, detector: Detector, options: ExportOptions) -> float:
    """Compare a file with its network; return the largest difference of any output.

    Raises `ParityError` naming the shape when a row is off by more than the tolerance. Float32 is
    also tried on noise; in half precision noise, which no camera gives, says little.
    """
    network = detector_run(detector, options.device)
    shapes = parity_shapes(detector.config.input_multiple, options)
    tolerance = FLOAT16 if options.half else FLOAT32
    generator = np.random.default_rng(0)
    worst = 0.0
    for batch, height, width in shapes:
        shape = (batch, detector.config.channels, height, width)
        drawn = [_rectangles(shape, generator)]
        if not options.half:
            drawn.append(generator.random(shape, dtype=np.float32))
        for images in drawn:
            found, expected = file(images), network(images)
            if not within(tolerance, found, expected):
                raise ParityError(f"{batch} image(s) of {height}x{width}")
            worst = max(worst, float(np.abs(found - expected).max(initial=0)))
    return worst


def parity_shapes(stride: int, options: ExportOptions) -> tuple[tuple[int, int, int], ...]:
    """Return (batch, height, width) to compare at: two, or the one that a fixed file takes."""
    asked = (options.batch_size, *options.size)
    if not options.dynamic:
        return (asked,)
    small = ((1, 4 * stride, 4 * stride), (2, 2 * stride, 5 * stride))
    return (*small, asked) if options.batch_size > 2 else small


def within(tolerance: Tolerance, found: Array, expected: Array) -> bool:
    """Whether rows [b, n, o] have the expected shape, are finite, and are close enough."""
    if found.shape != expected.shape or not np.isfinite(found).all():
        return False
    side = expected[..., 2:4].max(axis=-1, keepdims=True)
    boxes = np.abs(found[..., :4] - expected[..., :4]) <= tolerance.pixels + tolerance.share * side
    scores = np.abs(found[..., 4:] - expected[..., 4:]) <= tolerance.score
    return bool(boxes.all() and scores.all())


def _rectangles(shape: Sequence[int], generator: np.random.Generator) -> Array:
    """Draw images [b, channels, h, w] of plain rectangles on a gradient: edges and areas."""
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
