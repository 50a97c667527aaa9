"""Test-time augmentation: v7.0's sizes and tails, against a construction level by level."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from inference.tta import augmented_rows
from models.detector import Detector
from models.model_config import read_model_config


def network(name: str = "yolov5n", classes: int = 2) -> Detector:
    torch.manual_seed(3)
    return Detector(read_model_config(name, nc=classes)).eval()


def by_level(detector: Detector, images: Tensor) -> list[Tensor]:
    """Decoded rows of each level, fine to coarse."""
    with torch.no_grad():
        maps = detector(images)
        rows = detector.decode(maps)
    counts = [int(level[0, ..., 0].numel()) for level in maps]
    return list(rows.split(counts, 1))


def literally(detector: Detector, images: Tensor) -> Tensor:
    """v7.0's rule view by view and level by level."""
    stride, width = int(detector.stride.max()), images.shape[-1]
    collected = []
    for number, (scale, mirrored) in enumerate([(1.0, False), (0.83, True), (0.67, False)]):
        seen = images[..., torch.arange(width - 1, -1, -1)] if mirrored else images
        if scale != 1:
            height, wide = int(images.shape[2] * scale), int(width * scale)
            small = functional.interpolate(seen, (height, wide), mode="bilinear")
            sides = [-(-side * scale // stride) * stride for side in images.shape[2:]]
            seen = torch.full((*images.shape[:2], int(sides[0]), int(sides[1])), 0.447)
            seen[..., :height, :wide] = small
        levels = by_level(detector, seen)
        levels = levels[:-1] if number == 0 else levels[1:] if number == 2 else levels
        for rows in levels:
            moved = rows.clone()
            moved[..., :4] /= scale
            if mirrored:
                moved[..., 0] = width - moved[..., 0]
            collected.append(moved)
    return torch.cat(collected, 1)


@pytest.mark.parametrize(
    ("name", "size"),
    [
        pytest.param("yolov5n", (64, 96), id="three-levels"),
        pytest.param("yolov5n", (128, 128), id="square"),
        pytest.param("yolov5n6", (128, 64), id="four-levels"),
    ],
)
def test_all_views_equal_the_literal_construction(name: str, size: tuple[int, int]) -> None:
    detector = network(name)
    images = torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(0))
    found = augmented_rows(
        detector.predict,
        images,
        detector.predict(images),
        stride=int(detector.stride.max()),
        levels=len(detector.stride),
    )
    assert torch.allclose(found, literally(detector, images), atol=1e-4)


def test_sizes_and_rows_of_640_pixels() -> None:
    """Figures of the specification: 640, 544, 448; 24000 + 18207 + 2940 rows."""
    sides = []

    def forward(images: Tensor) -> Tensor:
        sides.append(images.shape[-1])
        return torch.ones(1, 3 * sum((sides[-1] // s) ** 2 for s in (8, 16, 32)), 6)

    images = torch.zeros(1, 3, 640, 640)
    rows = augmented_rows(forward, images, forward(images), stride=32, levels=3)
    assert sides == [640, 544, 448]
    counts = [
        int((rows[0, :, 2] == size).sum())
        for size in (1, 1 / torch.tensor(0.83), 1 / torch.tensor(0.67))
    ]
    assert counts == [24000, 18207, 2940]
