"""The table of a ranking: its order, its parts, foreign names."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from inference.journal import Record
from mining.explanations import HEADER, map_to_image, write_explanations
from mining.mining_cald import cald_scores
from mining.ranking import Ranking
from mining.scores import Scored, ScoringContext
from ops.boxes import pairwise_iou
from tests.mining.colour_example import (
    FAINT_RED,
    GREEN,
    SETTINGS,
    ColourPredictor,
    Read,
    draw,
    see_colours,
)

WHY = {
    "view": "flip",
    "view_scores": {"flip": 0.5, "cutout": 0.25},
    "box": [1.0, 2.0, 3.5, 4.0],
    "class": 1,
    "confidence": 0.7,
    "iou": 0.6,
    "divergence": 0.1,
    "partner_box": [1.5, 2.0, 3.0, 4.0],
    "partner_class": 0,
    "partner_confidence": 0.4,
}


def test_a_line_an_image(tmp_path: Path) -> None:
    rows = np.ones((2, 6), np.float32)
    records = [
        Record(0, 'a,"b\n.jpg', (9, 9), rows, None, 0, {"score": 0.375, "breakdown": WHY}),
        Record(1, "b\udcff.jpg", None, rows[:0], "broken", 1, {"score": None}),
        Record(2, "c.jpg", (9, 9), rows[:0], None, 2, {"score": None, "empty": True}),
    ]
    added = {0: {"value": 0.25, "distance": 1.0}}
    ranking = Ranking([1.5, None, 0.0], [0, 2, 1], added)
    known = {"c.jpg": "cats/1.jpg"}
    write_explanations(tmp_path / "t.csv", records.__getitem__, ranking, ("cat", "dog"), known)
    with open(tmp_path / "t.csv", encoding="utf-8", errors="surrogateescape", newline="") as file:
        first, second, third = csv.DictReader(file)
    assert tuple(first) == HEADER
    assert list(first.values()) == [
        "1", 'a,"b\n.jpg', "1.500000", "0.375000", "2", "flip", "flip=0.5 cutout=0.25", "dog",
        "0.7", "1.0", "2.0", "3.5", "4.0", "0.6", "0.1", "cat", "0.4", "1.5", "2.0", "3.0", "4.0",
        "0.25", "1.0", "", "", "",
    ]  # fmt: skip
    assert (second["rank"], second["path"], second["score"], second["own_score"]) == (
        "2", "c.jpg", "0.000000", "",
    )  # fmt: skip
    assert (first["original"], second["original"]) == ("", "cats/1.jpg")
    assert (third["rank"], third["path"], third["error"]) == ("3", "b\udcff.jpg", "broken")


def scored(path: str, views: tuple[str, ...], read: Read = see_colours) -> Scored:
    predictor = ColourPredictor(read)
    parts = predictor.stream_tiles([path], keep_inputs=True)
    (only,) = cald_scores(parts, ScoringContext(predictor, replace(SETTINGS, views=views), 1))
    return only


def test_the_object_nearest_to_the_base_point_is_told(tmp_path: Path) -> None:
    """Twice the network's size. Green has m = 1.784, faint red 1.302: red decides.

    Both views leave drawn boxes alone, so the IoU is 1 and no class changes.
    """
    path = draw(
        tmp_path / "a.png", (128, 192), ((20, 10, 80, 60), GREEN), ((100, 70, 180, 120), FAINT_RED)
    )
    one = scored(path, ("flip",))
    assert one.breakdown == {
        "view": "flip",
        "view_scores": {"flip": pytest.approx(1 - 0.001961, abs=1e-5)},
        "box": pytest.approx([100, 70, 180, 120], abs=2.5),
        "class": 0,
        "confidence": pytest.approx(77 / 255, abs=1e-4),
        "iou": pytest.approx(1, abs=1e-4),
        "divergence": 0.0,
        "partner_box": one.breakdown["box"] if one.breakdown else None,
        "partner_class": 0,
        "partner_confidence": pytest.approx(77 / 255, abs=1e-4),
    }


def test_the_view_that_raised_the_score_most_is_told(tmp_path: Path) -> None:
    path = draw(tmp_path / "a.png", (64, 96), ((20, 10, 60, 40), GREEN))
    one = scored(path, ("flip", "cutout", "resize", "rotate"))
    assert one.breakdown is not None
    scores = one.breakdown["view_scores"]
    assert isinstance(scores, dict)
    assert one.score == pytest.approx(sum(scores.values()) / 4, abs=1e-5)
    assert scores[one.breakdown["view"]] == max(scores.values())


@pytest.mark.parametrize("moved", [False, True], ids=["lost", "elsewhere"])
def test_a_lost_object_has_no_partner(tmp_path: Path, moved: bool) -> None:
    """Lost altogether, no object decides and the score is 1; elsewhere m = 0, which counts as 1."""
    path = draw(tmp_path / "a.png", (64, 96), ((5, 10, 25, 40), GREEN))

    def lose(image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        rows, classes = see_colours(image)
        if rows[:, 0].max() > 48:  # the mirrored object
            if not moved:
                return rows[:0], classes[:0]
            rows[:, :4] = torch.tensor([1.0, 1, 9, 9])
        return rows, classes

    one = scored(path, ("flip",), lose)
    score = 0.0 if moved else 1.0
    assert one.score == score
    assert one.breakdown == {"view": "flip", "view_scores": {"flip": score}}


@pytest.mark.parametrize("mirrored", [False, True])
def test_a_box_map_to_image_overlaps_as_before(mirrored: bool) -> None:
    """By hand: the frame is twice as large; 5 right of the object is 10 right, or 10 left."""
    mapped, box = np.array([10.0, 10, 30, 20]), np.array([15.0, 12, 35, 22])
    original = np.array([100.0, 50, 140, 70])
    back = map_to_image(box, mapped, original, flipped=mirrored)
    expected = [90.0, 54, 130, 74] if mirrored else [110.0, 54, 150, 74]
    assert back.tolist() == expected
    pairs = ((back, original), (box, mapped))
    first, second = (pairwise_iou(*torch.tensor(np.array(pair))[:, None]) for pair in pairs)
    assert float(first) == pytest.approx(float(second))
