"""The CALD engine on drawn images and a detector that sees colours, then on real networks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from inference.predictor import load_predictor
from mining.mining_cald import EMPTY_SCORES
from mining.scores import UNREADABLE_SCORE
from settings.detect import MiningSettings
from tests.conftest import needs_gpu
from tests.mining.colour_example import (
    CPU,
    SETTINGS,
    ColourPredictor,
    mine,
    scores_of,
    see_colours,
    untrained,
)
from utils.errors import Code, TaskError

FLIP = replace(SETTINGS, views=("flip",))


def test_flip_alone_by_hand(paths: list[str]) -> None:
    """A flip of drawn boxes loses nothing: IoU 1, m = 1 + 200/255, score = 1 - (m - 1.3).

    Defect 4: the unsure image, with |m - 1.3| near 0, precedes perfectly consistent ones.
    """
    scores = scores_of(ColourPredictor(), paths, FLIP)
    bright, faint = (1 - (1 + level / 255 - 1.3) for level in (200, 77))
    found = [scores[index] for index in (0, 1, 5, 3)]
    assert found == pytest.approx([bright, bright, bright, faint], abs=1e-5)


def test_changed_class_changes_the_score(paths: list[str]) -> None:
    """Defects 1 and 2: the same boxes and confidences, another class vector in the views only."""
    count = 0

    def waver(image: Tensor) -> tuple[Tensor, Tensor]:
        nonlocal count
        count += 1
        rows, classes = see_colours(image)
        return rows, classes if count == 1 else classes.roll(1, 1)

    # JS of (.9, .05, .05) and (.05, .9, .05): .9 ln(.9/.475) + .05 ln(.05/.475) = .462607;
    # m = 1 + .784314 * (1 - .462607) = 1.421485.
    wavering = scores_of(ColourPredictor(waver), paths[:1], FLIP)
    assert wavering == pytest.approx([1 - 0.121485], abs=1e-5)


@pytest.mark.parametrize("empty_images", ["first", "last"])
def test_empty_and_unreadable_images(paths: list[str], empty_images: str) -> None:
    """Defects 5 and 20: one rule for images without objects; a bad file comes last."""
    scores = scores_of(ColourPredictor(), paths, replace(SETTINGS, empty_images=empty_images))
    assert scores[2] == scores[7] == EMPTY_SCORES[empty_images]
    assert scores[4] == UNREADABLE_SCORE == min(scores)
    assert all(0 <= scores[index] <= 1 for index in (0, 1, 3, 5, 6))


def test_every_image_is_predicted_once_and_those_with_objects_in_each_view(
    paths: list[str],
) -> None:
    predictor = ColourPredictor()
    mine(predictor, paths, SETTINGS)
    assert sum(shape[0] for shape in predictor.shapes) == 7 + 5 * 4


def test_network_inputs_shrink_with_the_content(paths: list[str]) -> None:
    """Defect 12: the smaller view filled a corner of an input of the old size."""
    predictor = ColourPredictor()
    mine(predictor, paths[:1], replace(SETTINGS, views=("resize",)))
    # 64 x 96 -> 51 x 76 within 51.2 x 76.8, up to multiples of 32.
    assert predictor.shapes == [(1, 3, 64, 96), (1, 3, 64, 96)]
    predictor = ColourPredictor(image_size=640)
    mine(predictor, paths[6:7], replace(SETTINGS, views=("resize",)))
    # 192 x 256 fits 480 x 640; .8 of it is 384 x 512.
    assert predictor.shapes == [(1, 3, 480, 640), (1, 3, 384, 512)]


def test_views_are_given_once(paths: list[str]) -> None:
    with pytest.raises(TaskError, match="views is flip, flip") as caught:
        mine(ColourPredictor(), paths, replace(SETTINGS, views=("flip", "flip")))
    assert caught.value.code == Code.CONFIG


def test_scores_that_are_no_numbers_stop_the_task(paths: list[str]) -> None:
    def broken(image: Tensor) -> tuple[Tensor, Tensor]:
        rows, classes = see_colours(image)
        rows[:, 4] = float("nan")
        return rows, classes

    with pytest.raises(TaskError, match=r"a_landscape\.png is nan") as caught:
        mine(ColourPredictor(broken), paths, SETTINGS)
    assert caught.value.code == Code.NOT_A_NUMBER


@needs_gpu
def test_views_on_a_gpu_score_as_on_the_cpu(paths: list[str]) -> None:
    def see(image: Tensor) -> tuple[Tensor, Tensor]:
        rows, classes = see_colours(image.cpu())
        return rows.to(image.device), classes.to(image.device)

    predictor = ColourPredictor(see, device=torch.device("cuda"))
    expected = scores_of(ColourPredictor(), paths, SETTINGS)
    # One grey level may move an edge by a pixel.
    assert scores_of(predictor, paths, SETTINGS) == pytest.approx(expected, abs=0.05)


@pytest.mark.parametrize("classes", [1, 3])
def test_real_network_repeats_itself(paths: list[str], classes: int) -> None:
    scores = scores_of(untrained(classes), paths, SETTINGS)
    assert scores_of(untrained(classes), paths, SETTINGS) == scores
    assert scores.pop(4) == UNREADABLE_SCORE
    assert all(0 <= score <= 1 for score in scores)


def test_trained_network_scores_alike_in_any_batch(shared: Path) -> None:
    """The reference checkpoint on BCCD: float noise of batching must not move a score."""
    weights = shared / "reference" / "bccd_yolov5n.pt"
    settings = MiningSettings(mining_algorithm="cald", img_size=320, workers=0, precision="float32")
    images = sorted(str(p) for p in (shared / "data" / "bccd").rglob("*.jpg"))[:6]
    single, batched = (
        scores_of(load_predictor(weights, own, CPU), images, own)
        for own in (replace(settings, batch_size=size) for size in (1, 4))
    )
    assert batched == pytest.approx(single, abs=1e-3)
    assert np.argsort(batched).tolist() == np.argsort(single).tolist()
    assert len(set(single)) == len(images)
