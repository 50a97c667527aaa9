"""Detections of several batches as one tensor."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from inference.batch_detections import BatchDetections
from ops.nms import NmsConfig, non_max_suppression
from tests.conftest import DEVICES

NMS = NmsConfig(confidence=0.25, iou=0.45, max_detections=5)


def decoded(*counts: int, rows: int) -> Tensor:
    """Rows [b, rows, 8] of images with so many objects, behind rows without one."""
    outputs = torch.rand(len(counts), rows, 8) * 0.2
    for image, count in zip(outputs, counts, strict=True):
        for number, row in enumerate(image[rows - count :]):
            row[:5] = torch.tensor([100 * number + 50, 50, 40, 40, 0.95 - number / 10])
            row[5 + number % 3] = 0.9
    return outputs


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(
    "counts", [((1, 0), (2, 4)), ((2, 4), (1, 0)), ((0,), (3,)), ((0, 0),)], ids=str
)
def test_batches_with_different_numbers_of_objects(
    device: str, counts: tuple[tuple[int, ...], ...]
) -> None:
    batches = [decoded(*own, rows=8 + n) for n, own in enumerate(counts)]
    found = BatchDetections.suppress([one.to(device) for one in batches], NMS)
    rows = found.rows()
    slots = torch.arange(rows.shape[1], device=device).expand(len(rows), -1)
    classes = found.probabilities(slots).cpu()
    images = iter(zip(rows.cpu(), classes, strict=True))
    for batch, own in zip(batches, counts, strict=True):
        expected = non_max_suppression(batch, NMS)
        assert [len(one.rows) for one in expected] == list(own)
        for one, output in zip(expected, batch, strict=True):
            shown, probabilities = next(images)
            count = len(one.rows)
            assert shown[:count].equal(one.rows)
            assert not shown[count:].any()
            assert probabilities[:count].equal(output[one.source, 5:])
