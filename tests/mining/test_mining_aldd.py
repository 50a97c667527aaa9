"""ALDD mining: single bright pixels worked by hand, then the engine on real networks."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from inference.predictor import Predictor
from mining.mining_aldd import class_weights, disagreement, heat_maps
from ops.nms import NmsConfig
from settings.detect import MiningSettings
from settings.parse import parse_settings
from tests.mining.colour_example import ColourPredictor, scores_of, untrained
from utils.errors import Code, TaskError

SETTINGS = MiningSettings(mining_algorithm="aldd", batch_size=4, workers=1)


def lively() -> Predictor:
    """An untrained network without the biases that keep its objectness near 0."""
    predictor = untrained(3)
    with torch.no_grad():
        for convolution in predictor.network.compiled.head.m:
            convolution.bias.zero_()
            convolution.weight.mul_(3000)
    return predictor


def pixel(height: int, width: int, y: int, x: int) -> torch.Tensor:
    heat = torch.zeros(1, height, width)
    heat[0, y, x] = 1
    return heat


@pytest.mark.parametrize(
    ("heat", "expected"),
    [
        # Away from the border avg = 1/81: H = ln 81 / 81 + 80/81 ln(81/80) = .054253 + .012269.
        pytest.param(pixel(32, 32, 16, 16), 0.066521, id="one pixel"),
        # The same in one of two cells.
        pytest.param(pixel(32, 64, 16, 16), 0.033261, id="one of two cells"),
        # The corner's surroundings are 5 x 5: H(1/25) = .04 * 3.218876 + .96 * .040822 = .167944.
        pytest.param(pixel(32, 32, 0, 0), 0.167944, id="corner, without padding"),
        pytest.param(pixel(32, 32, 16, 16).repeat(2, 1, 1), 2 * 0.066521, id="maps add up"),
        pytest.param(torch.full((3, 32, 32), 0.4), 0.0, id="unsure all over"),
        pytest.param(torch.ones(3, 32, 32), 0.0, id="sure all over"),
    ],
)
def test_disagreement_by_hand(heat: torch.Tensor, expected: float) -> None:
    found = disagreement([heat[None]], (heat.shape[1], heat.shape[2]))
    assert float(found) == pytest.approx(expected, abs=2e-6)


def test_heat_is_objectness_times_class() -> None:
    """Two cells, logits of 0 and 100: .5 * .5 and .5 * 1."""
    raw = torch.zeros(1, 1, 1, 2, 7)
    raw[0, 0, 0, 1, 6] = 100
    (both,) = heat_maps([raw], (0, 1))
    assert both.tolist() == [[[[0.25, 0.25]]], [[[0.25, 0.5]]]]
    assert torch.equal(heat_maps([raw], (1,))[0], both[1:])


def slow_score(levels: Sequence[Tensor], of_class: int, size: tuple[int, int]) -> float:
    """The definition, one image [anchors, y, x, 5 + classes] and class at a time."""

    def entropy(p: Tensor) -> Tensor:
        return torch.special.entr(p) + torch.special.entr(1 - p)

    def mean(maps: Tensor) -> Tensor:
        return functional.avg_pool2d(maps, 9, 1, 4, count_include_pad=False)

    gain = torch.zeros(1, 1, *size, dtype=torch.float64)
    for raw in levels:
        heat = raw[..., 4].double().sigmoid() * raw[..., 5 + of_class].double().sigmoid()
        for one in heat[:, None, None]:
            wide = functional.interpolate(one, size, mode="bilinear", align_corners=False)
            gain += entropy(mean(wide)) - mean(entropy(wide))
    return float(functional.max_pool2d(gain.clamp(min=0), 32).mean())


@pytest.mark.parametrize("at_once", [1, 5, 100])
def test_a_batch_equals_the_slow_loop_class_by_class(at_once: int) -> None:
    source, size = torch.Generator().manual_seed(0), (64, 96)
    shapes = [(4, 3, size[0] // s, size[1] // s, 9) for s in (8, 16, 32)]
    levels = [4 * torch.randn(shape, generator=source) - 3 for shape in shapes]
    heats = heat_maps(levels, (0, 2, 3))
    parts = zip(*(heat.split(at_once) for heat in heats), strict=True)
    found = torch.cat([disagreement(part, size) for part in parts]).view(4, 3)
    for n, of_class in itertools.product(range(4), range(3)):
        expected = slow_score([one[n] for one in levels], (0, 2, 3)[of_class], size)
        assert float(found[n, of_class]) == pytest.approx(expected, abs=2e-7)


def test_batches_hardly_change_a_score_and_a_bad_file_comes_last(paths: list[str]) -> None:
    found = scores_of(lively(), paths, SETTINGS)
    single = scores_of(lively(), paths, replace(SETTINGS, batch_size=1))
    assert single == pytest.approx(found, rel=0.01)
    assert found.pop(4) == -1
    assert len(set(found)) == len(found)
    assert min(found) > 0


def test_class_scores_are_weighted(paths: list[str]) -> None:
    def score(*weights: float) -> float:
        settings = replace(SETTINGS, class_distribution_scores=weights)
        return scores_of(lively(), paths[:1], settings)[0]

    single = [score(1, 0, 0), score(0, 1, 0), score(0, 0, 1)]
    assert len(set(single)) == 3  # the class counts
    assert score() == pytest.approx(sum(single), rel=1e-6)
    assert score(3, 0) == pytest.approx(3 * single[0] + single[2], rel=1e-6)


def test_weights_of_classes() -> None:
    predictor = ColourPredictor(nms=NmsConfig(classes=(0, 2)))
    assert class_weights((0.5,), predictor) == [0.5, 0.0, 1.0]
    with pytest.raises(TaskError, match="has 4 numbers but the weights know 3") as caught:
        class_weights((1, 1, 1, 1), predictor)
    assert caught.value.code == Code.CONFIG


@pytest.mark.parametrize("text", ["1.0, 0.5", "[1, 0.5]", "1 0.5"])
def test_weights_are_written_as_in_earlier_executors(text: str) -> None:
    settings, warnings = parse_settings(MiningSettings, {"class_distribution_scores": text})
    assert settings.class_distribution_scores == (1.0, 0.5)
    assert warnings == []
