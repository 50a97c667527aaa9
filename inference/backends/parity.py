"""Parity check of a backend with torch: boxes and confidences, anchor by anchor.

Decoded rows [b, n, 5 + classes] of both stand at the same places, so nothing is matched by IoU,
and a box that NMS drops on one side only changes nothing. A network that detects nothing has equal
rows for any image: the maps before the head are compared as well.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from inference.backends.base import Backend
from models.detector import Detector
from ops.boxes import aligned_iou
from utils.device import without_tf32

ROWS_COMPARED = 100
"""Rows of each image with the highest confidence, of either side, that are compared."""


@dataclass(frozen=True)
class Tolerance:
    """The `share` of rows that must have an IoU of `overlap` with torch's box and differ by at most
    `confidence`, and the largest difference `maps` of a map before the head, as a share of its
    standard deviation (both as root mean squares).
    """

    overlap: float
    confidence: float
    share: float
    maps: float


FULL_PRECISION = Tolerance(overlap=0.99, confidence=0.005, share=1.0, maps=0.005)
"""For float32: two programs add up in another order."""
HALF_PRECISION = Tolerance(overlap=0.9, confidence=0.05, share=0.95, maps=0.1)
"""For bfloat16 and float16. bfloat16 is at worst 0.97, 0.02 and 0.02 off on photographs of blood
cells, in torch itself and in OpenVINO."""


@dataclass(frozen=True)
class Parity:
    """The result of a comparison with torch in float32."""

    rows: int
    share: float
    """Of the rows within the tolerance."""
    overlap: float
    """Least IoU of a box with torch's."""
    confidence: float
    maps: float
    """Largest differences, as in `Tolerance`."""
    tolerance: Tolerance

    @property
    def passed(self) -> bool:
        """Whether the backend may be used."""
        return self.share >= self.tolerance.share and self.maps <= self.tolerance.maps

    def __str__(self) -> str:
        return (
            f"{self.share:.1%} of {self.rows} rows within IoU {self.tolerance.overlap:g} and "
            f"confidence {self.tolerance.confidence:g}, least IoU {self.overlap:.4f}, largest "
            f"difference of confidence {self.confidence:.4f}, of maps {self.maps:.1%}"
        )


@torch.inference_mode()
@without_tf32()
def check_parity(backend: Backend, detector: Detector, batches: Iterable[Tensor]) -> Parity:
    """Compare a backend with the detector it was built from on images float32 [b, 3, h, w].

    Torch computes in float32 on the detector's device. Every batch has one shape.
    """
    tolerance = FULL_PRECISION if backend.arithmetic == "float32" else HALF_PRECISION
    overlaps, differences, maps = [], [], []
    for images in batches:
        pixels = images.contiguous(memory_format=torch.channels_last)
        actual, expected = backend(images), detector.head_inputs(pixels)
        maps += [map_difference(*pair) for pair in zip(actual, expected, strict=True)]
        rows, expected_rows = (detector.decode(detector.head(maps)) for maps in (actual, expected))
        overlap, difference = row_difference(rows, expected_rows)
        overlaps.append(overlap)
        differences.append(difference)
    overlap, difference = torch.cat(overlaps), torch.cat(differences)
    close = (overlap >= tolerance.overlap) & (difference <= tolerance.confidence)
    return Parity(
        len(close),
        float(close.float().mean()),
        float(overlap.min()),
        float(difference.max()),
        max(maps),
        tolerance,
    )


def map_difference(actual: Tensor, expected: Tensor) -> float:
    """Return the RMS difference of two maps [b, c, y, x] over the standard deviation of `expected`.

    Infinite if a value is not finite.
    """
    variation = (expected - expected.mean()).square().sum()
    difference = (actual - expected).square().sum()
    share = (difference / variation).sqrt().nan_to_num(torch.inf, torch.inf)
    return float(share) if float(difference) != 0 else 0.0


def row_difference(actual: Tensor, expected: Tensor) -> tuple[Tensor, Tensor]:
    """Return IoU and difference of confidence, [k] each, of the rows that are compared.

    Both are decoded rows [b, n, 5 + classes]: cx, cy, w, h in pixels, objectness and class
    probabilities. A value that is not finite has IoU 0 or an infinite difference.
    """
    actual = actual.nan_to_num(torch.inf, torch.inf, torch.inf)
    scores, expected_scores = (rows[..., 5:] * rows[..., 4:5] for rows in (actual, expected))
    count = min(ROWS_COMPARED, actual.shape[1])
    chosen = torch.zeros(actual.shape[:2], dtype=torch.bool, device=actual.device)
    for one in (scores, expected_scores):
        chosen.scatter_(1, one.amax(-1).topk(count, dim=1).indices, True)
    overlap = aligned_iou(actual[chosen][:, :4], expected[chosen][:, :4])
    difference = (scores[chosen] - expected_scores[chosen]).abs().amax(-1)
    return overlap.nan_to_num(0.0), difference.nan_to_num(torch.inf, torch.inf)
