"""Entropy mining: worked by hand, then through the engine with a detector that sees colours."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from mining.mining_entropy import detection_entropy
from mining.registry import mine
from ops.nms import non_max_suppression
from ops.tiling import Tiling
from settings.detect import MiningSettings
from tests.mining.test_mining_cald import (
    FAINT_RED,
    GREEN,
    RED,
    ColourPredictor,
    draw,
    untrained,
)

SETTINGS = MiningSettings(mining_algorithm="entropy", batch_size=4, workers=1)


@pytest.mark.parametrize(
    ("confidence", "expected"),
    [
        # -.5 log2 .5 = .5; -.25 log2 .25 = .5
        pytest.param([0.5], 0.5, id="one"),
        pytest.param([0.5, 0.25], 1.0, id="two add up"),
        # -.8 log2 .8 = .8 * .321928
        pytest.param([0.8], 0.257542, id="sure"),
        pytest.param([0.0, 1.0], 0.0, id="none and certain add nothing"),
        pytest.param([], 0.0, id="empty"),
    ],
)
def test_entropy_by_hand(confidence: list[float], expected: float) -> None:
    found = detection_entropy(np.array(confidence, np.float32))
    assert found == pytest.approx(expected, abs=1e-6)
    assert str(detection_entropy(np.array([1.0]))) == "0.0"  # not -0.0


def test_doubled_box_does_not_count() -> None:
    """Defect 15: what suppression removes is no detection."""
    row = torch.tensor([[20.0, 20, 10, 10, 0.5, 1.0]])
    single, double = (
        non_max_suppression(rows[None])[0].rows[:, 4].numpy() for rows in (row, row.repeat(2, 1))
    )
    assert detection_entropy(single) == detection_entropy(double) == pytest.approx(0.5)


@pytest.fixture
def paths(tmp_path: Path) -> list[str]:
    box, low = (20, 10, 60, 40), (10, 40, 40, 60)
    bad = tmp_path / "e.png"
    bad.write_bytes(b"no image")
    return [
        draw(tmp_path / "a.png", (64, 96), (box, RED)),
        draw(tmp_path / "b.png", (96, 64), (low, GREEN), ((12, 5, 60, 30), RED)),
        draw(tmp_path / "c.png", (64, 96)),
        draw(tmp_path / "d.png", (64, 96), (box, FAINT_RED)),
        str(bad),
    ]


@pytest.mark.parametrize(("rule", "empty"), [("first", 300.0), ("last", -10.0)])
def test_scores_of_images(paths: list[str], rule: str, empty: float) -> None:
    """Bright 200/255 = .784314: .274901 each; faint 77/255 = .301961: .521697."""
    rows = mine(ColourPredictor(), paths, replace(SETTINGS, empty_images=rule))
    last = min(0.0, empty) - 1
    assert [path for path, _ in rows] == paths
    assert [score for _, score in rows] == pytest.approx(
        [0.274901, 2 * 0.274901, empty, 0.521697, last], abs=1e-4
    )


@pytest.mark.parametrize("batch_size", [1, 3])
def test_batch_size_and_company_change_nothing(paths: list[str], batch_size: int) -> None:
    """Defect 14: could not run; the score of an image must not depend on its batch."""
    settings = replace(SETTINGS, batch_size=batch_size)
    expected = dict(mine(ColourPredictor(), paths, SETTINGS))
    assert dict(mine(ColourPredictor(), paths, settings)) == expected
    assert dict(mine(ColourPredictor(), paths[3:4], settings)) == {paths[3]: expected[paths[3]]}
    real = dict(mine(untrained(3), paths, SETTINGS))
    assert dict(mine(untrained(3), paths, settings)) == pytest.approx(real, abs=1e-3)


def test_an_object_in_several_tiles_counts_once(tmp_path: Path) -> None:
    path = draw(tmp_path / "large.png", (96, 240), ((110, 30, 140, 60), RED))
    predictor = ColourPredictor(tiling=Tiling(96, 0.25))
    assert mine(predictor, [path], SETTINGS)[0][1] == pytest.approx(0.274901, abs=0.02)
