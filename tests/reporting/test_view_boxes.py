"""Boxes that decided, in words and on a picture."""

from __future__ import annotations

import numpy as np
import pytest

from reporting.view_boxes import draw_deciding, words_of

GREY = np.full((100, 120, 3), 90, np.uint8)


def test_both_boxes_are_drawn_in_their_place() -> None:
    """At half the size: white from (20, 10), yellow from (60, 50)."""
    why = {"view": "flip", "box": [40, 20, 80, 60], "partner_box": [120.0, 100.0, 200.0, 160.0]}
    drawn = draw_deciding(GREY, why, 0.5)
    assert drawn[20, 20].tolist() == [255, 255, 255]
    assert drawn[60, 60].tolist() == [0, 212, 255]
    assert drawn[20, 30].tolist() == [90, 90, 90]
    assert (GREY == 90).all()


@pytest.mark.parametrize("why", [{}, {"box": [float("nan")] * 4}, {"box": None}])
def test_nothing_to_draw(why: dict[str, object]) -> None:
    assert (draw_deciding(GREY, why, 1.0) == GREY).all()


@pytest.mark.parametrize(
    ("why", "words"),
    [
        ({"view": "flip"}, "flip: nothing found again"),
        ({"view": "flip", "iou": 0.0}, "flip: object lost"),
        ({"view": "cutout", "iou": 0.5, "divergence": 0.125}, "cutout: IoU 0.50, divergence 0.12"),
    ],
)
def test_words(why: dict[str, object], words: str) -> None:
    assert words_of(why) == words
