"""The false-negative finder: misses worked by hand, then the engine with a half-blind detector."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from mining.mining_misses import possible_misses, unflip
from ops.boxes import pairwise_iou
from settings.detect import MiningSettings
from tests.mining.colour_example import (
    GREEN,
    RED,
    ColourPredictor,
    draw,
    draw_bad,
    scores_of,
    see_colours,
    untrained,
)

SETTINGS = MiningSettings(mining_algorithm="misses", batch_size=4, workers=1)
A, NEAR_A, B = (0.0, 0, 10, 10), (0.0, 0, 10, 8), (50.0, 0, 60, 10)  # IoU of the first two: .8


def rows(*found: tuple[tuple[float, ...], float]) -> Tensor:
    return torch.tensor([[*box, confidence, 0] for box, confidence in found]).reshape(-1, 6)


@pytest.mark.parametrize(
    ("plain", "mirrored", "expected"),
    [
        pytest.param(rows((A, 0.8)), rows((A, 0.8)), [], id="found in both looks"),
        pytest.param(rows((A, 0.8)), rows(), [], id="found in the plain look is found"),
        pytest.param(rows((A, 0.2)), rows(), [0.2], id="below the threshold"),
        pytest.param(rows((A, 0.2)), rows((NEAR_A, 0.1)), [0.2], id="twice below"),
        pytest.param(rows((A, 0.2)), rows((NEAR_A, 0.7)), [0.7], id="sure when mirrored"),
        pytest.param(rows(), rows((B, 0.7)), [0.7], id="mirrored only"),
        pytest.param(rows((A, 0.8), (NEAR_A, 0.2)), rows(), [], id="beside a found one"),
        pytest.param(rows((A, 0.2), (A, 0.2)), rows(), [0.2], id="doubled"),
        pytest.param(rows((A, 0.2)), rows((B, 0.6)), [0.6, 0.2], id="two misses"),
        pytest.param(rows(), rows(), [], id="nothing"),
    ],
)
def test_possible_misses(plain: Tensor, mirrored: Tensor, expected: list[float]) -> None:
    weights = possible_misses(plain[None], mirrored[None], 0.25)[0]
    assert weights[weights > 0].tolist() == pytest.approx(expected)


def slow_misses(plain: Tensor, flipped: Tensor, sure: float) -> list[float]:
    """The definition, one detection at a time."""

    def same(one: Tensor, others: list[Tensor]) -> bool:
        return any(float(pairwise_iou(one[None, :4], o[None, :4])) >= 0.5 for o in others)

    found = [row for row in plain if row[4] > sure]
    kept: list[Tensor] = []
    for row in sorted([*plain, *flipped], key=lambda row: -float(row[4])):
        if not same(row, found) and not same(row, kept):
            kept.append(row)
    return [float(row[4]) for row in kept]


def test_a_batch_equals_the_slow_loop_image_by_image() -> None:
    """Crowded images, whose duplicates hang together in long chains; one empty; zeros behind."""
    source = torch.Generator().manual_seed(3)
    counts = [(40, 60), (0, 5), (0, 0), (60, 1), (25, 25)]
    padded = torch.zeros(2, len(counts), 60, 6)
    alone = []
    for n, pair in enumerate(counts):
        for side, count in enumerate(pair):
            corner = torch.rand(count, 2, generator=source) * torch.tensor([60.0, 5])
            confidence = torch.rand(count, 1, generator=source).sort(0, descending=True).values
            own = torch.cat((corner, corner + 10, 0.7 * confidence, confidence * 0), 1)
            padded[side, n, :count] = own
        alone.append([padded[side, n, :count] for side, count in enumerate(pair)])
    weights = possible_misses(*padded, 0.65)
    for own, (plain, flipped) in zip(weights, alone, strict=True):
        assert own[own > 0].tolist() == slow_misses(plain, flipped, 0.65)


def test_mirrored_boxes_come_back() -> None:
    found = unflip(torch.tensor([[10.0, 5, 30, 25, 0.5, 2]]), 100)
    assert found.tolist() == [[70, 5, 90, 25, 0.5, 2]]


def blind_on_the_right(image: Tensor) -> tuple[Tensor, Tensor]:
    found, classes = see_colours(image)
    seen = found[:, 0] < 48
    return found[seen], classes[seen]


@pytest.fixture
def paths(tmp_path: Path) -> list[str]:
    left, right = (10, 10, 40, 40), (56, 10, 86, 40)
    return [
        draw(tmp_path / "a.png", (64, 96), (left, RED)),
        draw(tmp_path / "b.png", (64, 96), (left, RED), (right, GREEN)),
        draw(tmp_path / "c.png", (64, 96)),
        draw(tmp_path / "d.png", (64, 96), (right, GREEN)),
        draw_bad(tmp_path / "e.png"),
    ]


def test_object_that_only_the_mirror_shows_is_a_miss(paths: list[str]) -> None:
    """Green on the right is seen mirrored only: 200 / 255 = .784314."""
    scores = scores_of(ColourPredictor(blind_on_the_right), paths, SETTINGS)
    assert scores == pytest.approx([0, 0.784314, -1, 0.784314, -2], abs=1e-5)


def test_the_lower_threshold_counts(paths: list[str]) -> None:
    """An untrained network is nowhere sure; what is let through are all possible misses."""
    predictor = untrained(3)
    nms = replace(predictor.config.nms, confidence=0.9)
    predictor = replace(predictor, config=replace(predictor.config, nms=nms))
    assert scores_of(predictor, paths[:1], replace(SETTINGS, miss_conf=0.0))[0] > 0
    # Nothing at all: an image without detections.
    assert scores_of(predictor, paths[:1], replace(SETTINGS, miss_conf=0.9)) == [-1]
