"""Features: length, whole numbers, distances, and what the stream notes of each image."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from inference.predictions import Prediction
from mining.diversity import SIZE, UNIT, Features, directions, noting_features, projection
from ops.tiling import Tiling
from settings.detect import MiningSettings
from tests.mining.test_mining_cald import FAINT_RED, GREEN, RED, ColourPredictor, draw, untrained
from utils.errors import Code, TaskError

SETTINGS = MiningSettings(batch_size=3, workers=0)


class MeanColours(ColourPredictor):
    """Its backbone's map are the pixels themselves, so that the mean colour decides."""

    def backbone_map(self, images: Tensor) -> Tensor:
        return images.float() / 255


def noted(
    predictor: ColourPredictor, paths: list[str], settings: MiningSettings = SETTINGS
) -> tuple[dict[str, list[float]], list[Prediction]]:
    features: Features = {}
    stream = predictor.stream_parts(
        paths, batch_size=settings.batch_size, workers=0, keep_views=True
    )
    out = list(noting_features(stream, predictor, settings, features))
    return {paths[n]: own.tolist() for n, own in features.items()}, out


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


@pytest.fixture
def paths(tmp_path: Path) -> list[str]:
    box = (20, 10, 60, 40)
    broken = tmp_path / "d.png"
    broken.write_bytes(b"no image")
    return [
        draw(tmp_path / "a.png", (64, 96), (box, RED)),
        draw(tmp_path / "b.png", (96, 64), (box, GREEN)),
        draw(tmp_path / "c.png", (64, 96), (box, RED)),
        str(broken),
        draw(tmp_path / "e.png", (64, 96), (box, FAINT_RED)),
        draw(tmp_path / "f.png", (64, 96)),
    ]


@pytest.mark.parametrize("batch_size", [1, 2, 8])
def test_every_readable_image_is_noted_whatever_its_batch(
    paths: list[str], batch_size: int
) -> None:
    settings = MiningSettings(batch_size=batch_size)
    features, out = noted(MeanColours(), paths, settings)
    assert sorted(features) == sorted(set(paths) - {paths[3]})
    assert sorted(one.path for one in out) == paths
    assert features[paths[0]] == features[paths[2]]  # copies
    assert features[paths[0]] != features[paths[1]]
    assert features == noted(MeanColours(), paths)[0]
    assert features != noted(MeanColours(), paths, replace(settings, seed=1))[0]
    assert features == noted(MeanColours(), paths[::-1], settings)[0]


def test_features_come_before_the_image(paths: list[str]) -> None:
    """So whoever takes them out as images pass keeps memory bounded."""
    features: Features = {}
    predictor = MeanColours()
    stream = predictor.stream_parts(paths * 30, batch_size=2, workers=0, keep_views=True)
    most = 0
    for one in noting_features(stream, predictor, MiningSettings(batch_size=2), features):
        most = max(most, len(features))
        assert (features.pop(one.position, None) is None) == (one.error is not None)
    assert not features
    assert most < 60  # of 150: what batches and lanes hold


@pytest.mark.parametrize("batch_size", [1, 3])
def test_an_image_in_tiles_has_the_feature_of_its_whole(tmp_path: Path, batch_size: int) -> None:
    path = draw(tmp_path / "large.png", (96, 240), ((110, 30, 140, 60), RED))
    tiled = MeanColours()
    tiled.tiling = Tiling(96, 0.25)
    features, out = noted(tiled, [path], MiningSettings(batch_size=batch_size))
    assert len(out) > 1
    assert features == noted(MeanColours(), [path])[0]


def test_weights_that_give_no_numbers_are_refused(paths: list[str]) -> None:
    class Broken(ColourPredictor):
        def backbone_map(self, images: Tensor) -> Tensor:
            return torch.full((len(images), 4, 2, 3), float("nan"))

    with pytest.raises(TaskError, match=r"output for .*a\.png is not a number") as one:
        noted(Broken(), paths[:1])
    assert one.value.code is Code.NOT_A_NUMBER


def test_a_real_network_sees_copies_as_alike(paths: list[str]) -> None:
    features, _ = noted(untrained(3), paths)  # type: ignore[arg-type]
    assert np.linalg.norm(features[paths[0]]) == pytest.approx(UNIT, abs=5)
    near = np.subtract(features[paths[0]], features[paths[2]])
    far = np.subtract(features[paths[0]], features[paths[1]])
    assert abs(near).max() <= 1
    assert np.linalg.norm(far) > 5
