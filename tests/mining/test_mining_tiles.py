"""Large images in mining: the most informative part decides, and borders do not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from torch import Tensor

from mining.mining_cald import EMPTY_SCORES
from mining.registry import mine
from ops.tiling import Tiling
from tests.mining.test_mining_cald import (
    FAINT_RED,
    GREEN,
    RED,
    SETTINGS,
    ColourPredictor,
    Read,
    draw,
    see_colours,
)

TILED = Tiling(96, 0.25)


@pytest.fixture
def large(tmp_path: Path) -> list[str]:
    """Images of 96 x 240 pixels, seen whole and in tiles (0, 72, 144 to 96, 168, 240), and one that
    fits into a tile.
    """
    folder = tmp_path / "large"
    folder.mkdir()
    sure, faint = ((110, 30, 140, 60), RED), ((160, 30, 200, 60), FAINT_RED)
    return [
        draw(folder / "a_sure.png", (96, 240), sure),
        draw(folder / "b_faint.png", (96, 240), faint),
        draw(folder / "c_empty.png", (96, 240)),
        draw(folder / "d_small.png", (96, 96), ((20, 10, 60, 40), GREEN)),
    ]


def tiled(see: Read = see_colours) -> ColourPredictor:
    return ColourPredictor(see, tiling=TILED)


def test_an_image_has_the_score_of_its_most_informative_part(large: list[str]) -> None:
    """Each tile that shows an object whole is scored as an image of its own would be."""
    settings = replace(SETTINGS, views=("flip",))
    found = dict(mine(tiled(), large, settings))
    assert found[large[0]] == pytest.approx(1 - (1 + 200 / 255 - 1.3), abs=1e-3)
    assert found[large[1]] == pytest.approx(1 - (1 + 77 / 255 - 1.3), abs=1e-3)
    assert found[large[2]] == EMPTY_SCORES["last"]
    alone = dict(mine(ColourPredictor(), large[3:], settings))
    assert found[large[3]] == alone[large[3]]


def test_a_tile_with_an_unsure_object_decides(tmp_path: Path) -> None:
    """The look at the whole image does not see the faint object (it is too small there)."""
    path = draw(
        tmp_path / "both.png", (96, 480), ((20, 20, 80, 80), RED), ((400, 40, 403, 43), FAINT_RED)
    )
    settings = replace(SETTINGS, views=("flip",))
    whole, parts = (mine(p, [path], settings)[0][1] for p in (ColourPredictor(), tiled()))
    assert parts == pytest.approx(1 - (1 + 77 / 255 - 1.3), abs=1e-3)
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

    settings = replace(SETTINGS, views=("flip",))
    found = mine(tiled(doubt_at_the_border), [path], settings)[0][1]
    assert found == pytest.approx(1 - (1 + 200 / 255 - 1.3), abs=0.05)
