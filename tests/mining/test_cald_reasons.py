"""What decided, on drawn images and by hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from mining.cald_reasons import brought_back
from mining.mining_cald import score_stream
from mining.scores import Scored
from ops.boxes import pairwise_iou
from tests.mining.test_mining_cald import FAINT_RED, GREEN, SETTINGS, ColourPredictor, Read, draw
from tests.mining.test_mining_cald import see_colours as see


def scored(path: str, views: tuple[str, ...], read: Read = see) -> Scored:
    predictor = ColourPredictor(read)
    parts = predictor.stream_parts([path], batch_size=1, workers=1, keep_views=True)
    (only,) = score_stream(parts, predictor, replace(SETTINGS, views=views))
    return only


def test_the_object_nearest_to_the_base_point_is_told(tmp_path: Path) -> None:
    """Twice the network's size. Green has m = 1.784, faint red 1.302: red decides.

    Both views leave drawn boxes alone, so the IoU is 1 and no class changes.
    """
    path = draw(
        tmp_path / "a.png", (128, 192), ((20, 10, 80, 60), GREEN), ((100, 70, 180, 120), FAINT_RED)
    )
    one = scored(path, ("flip",))
    assert one.why == {
        "view": "flip",
        "view_scores": {"flip": pytest.approx(1 - 0.001961, abs=1e-5)},
        "box": pytest.approx([100, 70, 180, 120], abs=2.5),
        "class": 0,
        "confidence": pytest.approx(77 / 255, abs=1e-4),
        "iou": pytest.approx(1, abs=1e-4),
        "divergence": 0.0,
        "partner_box": one.why["box"] if one.why else None,
        "partner_class": 0,
        "partner_confidence": pytest.approx(77 / 255, abs=1e-4),
    }


def test_the_view_that_raised_the_score_most_is_told(tmp_path: Path) -> None:
    path = draw(tmp_path / "a.png", (64, 96), ((20, 10, 60, 40), GREEN))
    one = scored(path, ("flip", "cutout", "resize", "rotate"))
    assert one.why is not None
    scores = one.why["view_scores"]
    assert isinstance(scores, dict)
    assert one.score == pytest.approx(sum(scores.values()) / 4, abs=1e-5)
    assert scores[one.why["view"]] == max(scores.values())


@pytest.mark.parametrize("moved", [False, True], ids=["lost", "elsewhere"])
def test_a_lost_object_has_no_partner(tmp_path: Path, moved: bool) -> None:
    """Lost altogether, no object decides and the score is 1; elsewhere m = 0, which counts as 1."""
    path = draw(tmp_path / "a.png", (64, 96), ((5, 10, 25, 40), GREEN))

    def lose(image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        rows, classes = see(image)
        if rows[:, 0].max() > 48:  # the mirrored object
            if not moved:
                return rows[:0], classes[:0]
            rows[:, :4] = torch.tensor([1.0, 1, 9, 9])
        return rows, classes

    one = scored(path, ("flip",), lose)
    score = 0.0 if moved else 1.0
    assert one.score == score
    assert one.why == {"view": "flip", "view_scores": {"flip": score}}


@pytest.mark.parametrize("mirrored", [False, True])
def test_a_box_brought_back_overlaps_as_before(mirrored: bool) -> None:
    """By hand: the frame is twice as large; 5 right of the object is 10 right, or 10 left."""
    mapped, box = torch.tensor([10.0, 10, 30, 20]), torch.tensor([15.0, 12, 35, 22])
    original = torch.tensor([100.0, 50, 140, 70])
    back = brought_back(box, mapped, original, mirrored=mirrored)
    expected = [90.0, 54, 130, 74] if mirrored else [110.0, 54, 150, 74]
    assert back.tolist() == expected
    assert pairwise_iou(back[None], original[None]) == pairwise_iou(box[None], mapped[None])
