"""Large images in mining: the most informative part decides, and borders do not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from torch import Tensor

from mining.mining_cald import EMPTY_SCORES
from ops.tiling import Tiling
from tests.mining.colour_example import (
    FAINT_RED,
    GREEN,
    RED,
    SETTINGS,
    ColourPredictor,
    Read,
    draw,
    scores_of,
    see_colours,
)

FLIP = replace(SETTINGS, views=("flip",))
SURE, FAINT = (1 - (1 + level / 255 - 1.3) for level in (200, 77))


def tiled(see: Read = see_colours) -> ColourPredictor:
    return ColourPredictor(see, tiling=Tiling(96, 0.25))


def test_an_image_has_the_score_of_its_most_informative_part(tmp_path: Path) -> None:
    """Each tile that shows an object whole is scored as an image of its own would be.

    Images of 96 x 240 pixels are seen whole and in tiles (0, 72, 144 to 96, 168, 240); the last
    one fits into a tile.
    """
    paths = [
        draw(tmp_path / "a.png", (96, 240), ((110, 30, 140, 60), RED)),
        draw(tmp_path / "b.png", (96, 240), ((160, 30, 200, 60), FAINT_RED)),
        draw(tmp_path / "c.png", (96, 240)),
        draw(tmp_path / "d.png", (96, 96), ((20, 10, 60, 40), GREEN)),
    ]
    found = scores_of(tiled(), paths, FLIP)
    assert found[:3] == pytest.approx([SURE, FAINT, EMPTY_SCORES["last"]], abs=1e-3)
    assert found[3:] == scores_of(ColourPredictor(), paths[3:], FLIP)


def test_a_tile_with_an_unsure_object_decides(tmp_path: Path) -> None:
    """The look at the whole image does not see the faint object (it is too small there)."""
    path = draw(
        tmp_path / "both.png", (96, 480), ((20, 20, 80, 80), RED), ((400, 40, 403, 43), FAINT_RED)
    )
    whole, parts = (scores_of(p, [path], FLIP)[0] for p in (ColourPredictor(), tiled()))
    assert parts == pytest.approx(FAINT, abs=1e-3)
    assert whole < parts - 0.2


def test_what_a_border_cuts_is_no_reference(tmp_path: Path) -> None:
    """An object across a seam that the tile's detector doubts does not make an image informative:
    the other tile and the whole image see it, sure and whole.
    """
    path = draw(tmp_path / "seam.png", (96, 168), ((80, 30, 110, 60), RED))

    def doubt_at_the_border(image: Tensor) -> tuple[Tensor, Tensor]:
        rows, classes = see_colours(image)
        width = image.shape[-1]
        cut = (rows[:, 0] <= 1) | (rows[:, 2] >= width - 1)
        rows[cut, 4] = 0.3  # m = 1.3: the most informative there is
        return rows, classes

    assert scores_of(tiled(doubt_at_the_border), [path], FLIP) == pytest.approx([SURE], abs=0.05)
