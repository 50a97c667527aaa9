"""Drawn images that several mining tests score."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.mining.colour_example import BLUE, FAINT_RED, GREEN, RED, draw, draw_bad


@pytest.fixture
def paths(tmp_path: Path) -> list[str]:
    """Images of mixed shapes; the third and the last without objects, the fifth unreadable."""
    box, low = (20, 10, 60, 40), (10, 40, 40, 60)
    return [
        draw(tmp_path / "a_landscape.png", (64, 96), (box, RED)),
        draw(tmp_path / "b_portrait.png", (96, 64), (low, GREEN), ((42, 5, 60, 30), BLUE)),
        draw(tmp_path / "c_empty.png", (64, 96)),
        draw(tmp_path / "d_faint.png", (64, 96), (box, FAINT_RED)),
        draw_bad(tmp_path / "e_broken.png"),
        draw(tmp_path / "f_odd.png", (50, 90), (box, BLUE)),
        draw(tmp_path / "g_large.png", (192, 256), ((100, 60, 180, 150), GREEN)),
        draw(tmp_path / "h_empty.png", (40, 96)),
    ]


@pytest.fixture
def copies(tmp_path: Path) -> list[str]:
    """Faint red and two copies, bright green, an empty image, one that cannot be read."""
    box = (20, 10, 60, 40)
    first = draw(tmp_path / "a.png", (64, 96), (box, FAINT_RED))
    again = [shutil.copy(first, str(tmp_path / name)) for name in ("b.png", "c.png")]
    lone, empty = draw(tmp_path / "d.png", (96, 64), (box, GREEN)), tmp_path / "e.png"
    return [first, *again, lone, draw(empty, (64, 96)), draw_bad(tmp_path / "f.png")]
