"""Whether an engine finds what torch does: boxes and confidences, anchor by anchor.

Decoded rows [b, n, 5 + classes] of both stand at the same places, so nothing is matched by
overlap, and a box that suppression drops in one of them and not in the other disturbs nothing. A
network that is sure of nothing has like rows whatever it is shown: the maps are compared as well.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from inference.backends.base import Engine
from models.detector import Detector
from ops.boxes import aligned_iou

LOOKED_AT = 100
"""Most confident rows per image, of either side, that are compared."""


@dataclass(frozen=True)
class Tolerance:
    """How far an engine may be off.

    The least IoU of a box with torch's and the most difference of a confidence, which the `share`
    of the rows must keep; and the difference of each map before the head, as a share of how much
    it varies (both as root mean squares).
    """

    overlap: float
    confidence: float
    share: float
    maps: float


ROUNDING = Tolerance(overlap=0.99, confidence=0.005, share=1.0, maps=0.005)
"""For float32: two programs add up in another order."""
SHORT = Tolerance(overlap=0.9, confidence=0.05, share=0.95, maps=0.1)
"""For bfloat16 and float16. bfloat16 is at worst 0.97, 0.02 and 0.02 off on photographs of blood
cells, in torch itself and in OpenVINO."""


@dataclass(frozen=True)
class Agreement:
    """What the comparison of an engine with torch in float32 showed."""

    rows: int
    share: float
    """Of the rows within the tolerance."""
    overlap: float
    """Least IoU of a box with torch's."""
    confidence: float
    """Largest difference of a confidence."""
    maps: float
    """Largest difference of a map before the head, as a share of its variation."""
    tolerance: Tolerance

    @property
    def agrees(self) -> bool:
        """Whether the engine may be used."""
        return self.share >= self.tolerance.share and self.maps <= self.tolerance.maps

    def __str__(self) -> str:
        return (
            f"{self.share:.1%} of {self.rows} rows within IoU {self.tolerance.overlap:g} and "
            f"confidence {self.tolerance.confidence:g}, least IoU {self.overlap:.4f}, largest "
            f"difference of confidence {self.confidence:.4f}, of maps {self.maps:.1%}"
        )


def tolerance_of(arithmetic: str) -> Tolerance:
    """What an engine may differ by, given the number format it computes in."""
    return ROUNDING if arithmetic == "float32" else SHORT


@torch.inference_mode()
def agreement(engine: Engine, network: Detector, batches: Iterable[Tensor]) -> Agreement:
    """Compare an engine with the network it was built from on images float32 [b, 3, h, w] each.

    Torch computes in float32 on the network's device. Every batch is one shape.
    """
    tolerance = tolerance_of(engine.arithmetic)
    overlaps, differences, maps = [], [], []
    for images in batches:
        pixels = images.contiguous(memory_format=torch.channels_last)
        theirs, own = network.head_inputs(pixels), engine(images)
        maps += [relative(one, other) for one, other in zip(own, theirs, strict=True)]
        expected, found = (network.decode(network.head(inputs)) for inputs in (theirs, own))
        overlap, difference = compared(found, expected)
        overlaps.append(overlap)
        differences.append(difference)
    overlap, difference = torch.cat(overlaps), torch.cat(differences)
    close = (overlap >= tolerance.overlap) & (difference <= tolerance.confidence)
    return Agreement(
        len(close),
        float(close.float().mean()),
        float(overlap.min()),
        float(difference.max()),
        max(maps),
        tolerance,
    )


def relative(found: Tensor, expected: Tensor) -> float:
    """Root mean square of the difference of two maps [b, c, y, x], over the variation of
    `expected` around its mean; infinite for what is not a number.
    """
    variation = (expected - expected.mean()).square().sum()
    difference = (found - expected).square().sum()
    share = (difference / variation).sqrt().nan_to_num(torch.inf, torch.inf)
    return float(share) if float(difference) != 0 else 0.0


def compared(found: Tensor, expected: Tensor) -> tuple[Tensor, Tensor]:
    """IoU of the boxes and difference of the confidences of the rows that count, [k] each.

    `found` and `expected` are decoded rows [b, n, 5 + classes]: cx, cy, w, h in pixels, objectness
    and class probabilities. A number that is not finite is a difference without bound.
    """
    found = found.nan_to_num(torch.inf, torch.inf, torch.inf)
    scores, others = (rows[..., 5:] * rows[..., 4:5] for rows in (found, expected))
    count = min(LOOKED_AT, found.shape[1])
    chosen = torch.zeros(found.shape[:2], dtype=torch.bool, device=found.device)
    for one in (scores, others):
        chosen.scatter_(1, one.amax(-1).topk(count, dim=1).indices, True)
    overlap = aligned_iou(found[chosen][:, :4], expected[chosen][:, :4], layout="cxcywh")
    difference = (scores[chosen] - others[chosen]).abs().amax(-1)
    return overlap.nan_to_num(0.0), difference.nan_to_num(torch.inf, torch.inf)
