"""The false-negative finder: misses worked by hand, then the engine with a half-blind detector."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from mining.mining_misses import possible_misses, unflip
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
    assert possible_misses(plain, mirrored, 0.25).tolist() == pytest.approx(expected)


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
