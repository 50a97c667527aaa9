"""Features: length, whole numbers, distances, and what the stream notes of each image."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from inference.predictions import Prediction
from inference.predictor import Predictor
from mining.diversity import (
    SIZE,
    UNIT,
    Features,
    collect_features,
    directions,
    farthest_first,
    halved,
    projection,
)
from mining.scores import ScoringContext
from models.blocks import Conv
from models.onednn import OneDnnConv
from ops.tiling import Tiling
from settings.detect import MiningSettings
from tests.mining.colour_example import RED, ColourPredictor, draw, mine, untrained
from tools.sources import SourceDataset
from utils.errors import Code, TaskError

SETTINGS = MiningSettings(batch_size=3, workers=0)


def noted(
    predictor: Predictor, paths: list[str], settings: MiningSettings = SETTINGS
) -> tuple[dict[str, list[float]], list[Prediction]]:
    features: Features = {}
    stream = predictor.stream_tiles(paths, keep_inputs=True)
    out = list(collect_features(stream, ScoringContext(predictor, settings, len(paths)), features))
    return {paths[n]: own.tolist() for n, own in features.items()}, out


def test_large_images_are_halved() -> None:
    images = torch.zeros(1, 3, 256, 64, dtype=torch.uint8)
    images[:, :, ::2, ::2] = 204
    small = halved(images)
    assert small.shape == (1, 3, 128, 32)
    torch.testing.assert_close(small, torch.full_like(small, 0.2))  # a fourth of .8
    assert halved(images[:, :, :224]).dtype == torch.uint8


@pytest.mark.parametrize("algorithm", ["balanced", "diverse"])
def test_an_image_costs_less_than_one_and_a_half_looks(
    algorithm: str, drawn: SourceDataset
) -> None:
    """Multiplications of all convolutions, beside those of plain detection."""
    predictor, counted = untrained(3), [0]
    predictor = replace(predictor, config=replace(predictor.config, image_size=320))
    compiled = predictor.network.compiled

    def count(module: torch.nn.Module, _: object, output: Tensor) -> None:
        weight = getattr(module, "conv", module).weight
        counted[0] += output.numel() * weight[0].numel()

    units = [one for one in compiled.modules() if isinstance(one, (OneDnnConv, Conv))]
    for module in (*units, *compiled.head.m):
        module.register_forward_hook(count)
    paths = [str(image.path) for image in drawn.splits["val"]]
    shown = list(predictor.stream(paths))
    plain, counted[0] = counted[0], 0
    settings = replace(SETTINGS, mining_algorithm=algorithm, img_size=320)
    assert len(mine(predictor, paths, settings)) == len(shown)
    assert 1.1 < counted[0] / plain < 1.2


def test_directions_by_hand() -> None:
    """(3, 4) has length 5: .6 and .8 of 2048 are 1228.8 and 1638.4. Length does not count."""
    found = directions(np.array([[3.0, 4], [30, 40], [-1, 0], [0, 0]]), np.eye(2))
    assert UNIT == 2048
    assert found.tolist() == [[1229, 1638], [1229, 1638], [-2048, 0], [0, 0]]
    assert found.dtype == np.float32
    assert not np.signbit(found[3]).any()


def test_projection_keeps_distances_and_follows_the_seed() -> None:
    """The length of 64 normal numbers varies by 1 / sqrt(128) = .088, and so do distances."""
    means = np.abs(np.random.default_rng(0).standard_normal((40, 500)))
    own = directions(means, projection(500, 7)).astype(np.float64) / UNIT
    true = means / np.linalg.norm(means, axis=1, keepdims=True)
    pairs = np.triu_indices(40, 1)
    found, expected = (
        np.linalg.norm(rows[pairs[0]] - rows[pairs[1]], axis=1) for rows in (own, true)
    )
    assert own.shape == (40, SIZE)
    ratio = found / expected
    assert 0.9 < ratio.mean() < 1.1
    assert ratio.std() < 0.11
    assert (directions(means, projection(500, 7)) / UNIT == own).all()
    assert (directions(means, projection(500, 8)) / UNIT != own).any()


@pytest.mark.parametrize("batch_size", [1, 2, 8])
def test_every_readable_image_is_noted_whatever_its_batch(
    copies: list[str], batch_size: int
) -> None:
    settings = MiningSettings(batch_size=batch_size)
    features, out = noted(ColourPredictor(batch_size=batch_size), copies, settings)
    assert sorted(features) == copies[:5]
    assert sorted(one.path for one in out) == copies
    assert features[copies[0]] == features[copies[1]] != features[copies[3]]
    assert features == noted(ColourPredictor(), copies)[0]
    assert features != noted(ColourPredictor(), copies, replace(settings, seed=1))[0]
    assert features == noted(ColourPredictor(), copies[::-1], settings)[0]


@pytest.mark.parametrize("batch_size", [1, 3])
def test_an_image_in_tiles_has_the_feature_of_its_whole(tmp_path: Path, batch_size: int) -> None:
    path = draw(tmp_path / "large.png", (96, 240), ((110, 30, 140, 60), RED))
    tiled = ColourPredictor(batch_size=batch_size, tiling=Tiling(96, 0.25))
    features, out = noted(tiled, [path], MiningSettings(batch_size=batch_size))
    assert len(out) > 1
    assert features == noted(ColourPredictor(), [path])[0]


def test_weights_that_give_no_numbers_are_refused(copies: list[str]) -> None:
    class Broken(ColourPredictor):
        def backbone_map(self, images: Tensor) -> Tensor:
            return torch.full((len(images), 4, 2, 3), float("nan"))

    with pytest.raises(TaskError, match=r"output for .*a\.png is not a number") as one:
        noted(Broken(), copies[:1])
    assert one.value.code is Code.NOT_A_NUMBER


def test_a_real_network_sees_copies_as_alike(copies: list[str]) -> None:
    features, _ = noted(untrained(3), copies)
    first, second, other = (np.array(features[copies[n]]) for n in (0, 1, 3))
    assert np.linalg.norm(first) == pytest.approx(UNIT, abs=5)
    assert abs(first - second).max() <= 1
    assert np.linalg.norm(first - other) > 5


LENGTH = 1000.0
EAST, NORTH, WEST = (1000, 0), (0, 1000), (-1000, 0)


@pytest.mark.parametrize(
    ("weights", "rows", "order", "gains"),
    [
        # Shares of the largest distance, 2: east to north sqrt(2) / 2 = .707107, to west 1.
        # After the first: double .9 * 0, north .5 * .707107 = .353553, west .4 * 1 = .4. After
        # west, north is as far as before: .353553.
        pytest.param(
            [1.0, 0.9, 0.5, 0.4], [EAST, EAST, NORTH, WEST],
            [0, 3, 2, 1], [1, 0.4, 0.353553, 0], id="double last, far before near",
        ),
        # North .8 * .707107 = .565685 beats west .4; then west is .707107 from north: .282843.
        pytest.param(
            [1.0, 0.8, 0.4], [EAST, NORTH, WEST],
            [0, 1, 2], [1, 0.565685, 0.282843], id="weight counts, nearest counts",
        ),
        pytest.param(
            [0.5, 0.5, 0.5], [NORTH, EAST, WEST],
            [0, 1, 2], [0.5, 0.353553, 0.353553], id="ties to the first",
        ),
        # (600, 800) to east: sqrt(400^2 + 800^2) = 894.427, of 2000: .447214
        pytest.param([1.0, 1.0], [EAST, (600, 800)], [0, 1], [1, 0.447214], id="between"),
        pytest.param([0.0, 0.0], [EAST, NORTH], [0, 1], [0, 0], id="no weight"),
        pytest.param([0.3], [(0, 0)], [0], [0.3], id="one, of no direction"),
        pytest.param([], [], [], [], id="none"),
    ],
)  # fmt: skip
def test_by_hand(
    weights: list[float], rows: list[tuple[int, int]], order: list[int], gains: list[float]
) -> None:
    points = np.array(rows, np.float32).reshape(-1, 2)
    found = farthest_first(np.array(weights), points, LENGTH)
    assert found.points.tolist() == order
    assert found.gains.tolist() == pytest.approx(gains, abs=1e-6)


@pytest.mark.parametrize(
    ("least", "order", "gains"),
    [
        # North is .707107 from east; (600, 800) .447214 from east and .316228 from north.
        pytest.param(0.0, [0, 3, 1, 2], [1, 0.4, 0.353553, 0.142302], id="none"),
        pytest.param(0.5, [0, 3, 1, 2], [1, 0.4, 0.353553, 0], id="one too near"),
        pytest.param(0.8, [0, 3, 1, 2], [1, 0.4, 0, 0], id="by weight among those"),
        pytest.param(1.0, [0, 3, 1, 2], [1, 0.4, 0, 0], id="opposite is far enough"),
    ],
)
def test_a_least_distance(least: float, order: list[int], gains: list[float]) -> None:
    points = np.array([EAST, NORTH, (600, 800), WEST], np.float32)
    found = farthest_first(np.array([1, 0.5, 0.45, 0.4]), points, LENGTH, least=least)
    assert found.points.tolist() == order
    assert found.gains.tolist() == pytest.approx(gains, abs=1e-6)
    assert found.distances[0] == found.distances[1] == 1
    assert found.nearest.tolist()[:1] == [-1]


def test_the_nearest_point_before() -> None:
    """East, west, north: north is as far from both, and the first counts; then a copy of west."""
    points = np.array([EAST, WEST, NORTH, WEST], np.float32)
    found = farthest_first(np.array([1, 0.9, 0.8, 0.7]), points, LENGTH)
    assert found.points.tolist() == [0, 1, 2, 3]
    # Opposite points are at the largest distance: none is near.
    assert found.nearest.tolist() == [-1, -1, 0, 1]


def slow(weights: np.ndarray, rows: np.ndarray, unit: float) -> list[int]:
    """The rule word for word, in whole numbers."""
    whole, order = rows.astype(np.int64), list[int]()
    while len(order) < len(rows):
        best, best_gain = -1, -1.0
        for n in set(range(len(rows))) - set(order):
            squares = [int(((whole[n] - whole[other]) ** 2).sum()) for other in order]
            gain = weights[n] * min([1.0, *(np.sqrt(s) / (2 * unit) for s in squares)])
            if gain > best_gain or (gain == best_gain and n < best):
                best, best_gain = n, gain
        order.append(best)
    return order


@pytest.mark.parametrize("unit", [1.0, 30.0, 2048.0])
def test_equals_the_slow_loop(unit: float) -> None:
    """A small unit makes many of the points equal."""
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((60, 5))
    rows = np.rint(rows / np.linalg.norm(rows, axis=1, keepdims=True) * unit).astype(np.float32)
    weights = rng.integers(1, 4, 60) / 3
    found = farthest_first(weights, rows, unit)
    assert found.points.tolist() == slow(weights, rows, unit)
    assert (np.diff(found.gains) <= 0).all()
    # Whichever way products are added up, nothing changes: here in another order of numbers.
    again = farthest_first(weights, np.ascontiguousarray(rows[:, ::-1]), unit)
    assert all((one == other).all() for one, other in zip(again, found, strict=True))
