"""Entropy mining: worked by hand, then through the engine with a detector that sees colours."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mining.mining_entropy import detection_entropy
from ops.tiling import Tiling
from settings.detect import MiningSettings
from tests.mining.colour_example import RED, ColourPredictor, draw, scores_of, untrained

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


@pytest.mark.parametrize(("rule", "empty"), [("first", 300.0), ("last", -10.0)])
def test_scores_of_images(paths: list[str], rule: str, empty: float) -> None:
    """Bright 200/255 = .784314: .274901 each; faint 77/255 = .301961: .521697."""
    found = scores_of(ColourPredictor(), paths[:5], replace(SETTINGS, empty_images=rule))
    last = min(0.0, empty) - 1
    assert found == pytest.approx([0.274901, 2 * 0.274901, empty, 0.521697, last], abs=1e-4)


def test_noise_of_batches_hardly_changes_a_real_score(paths: list[str]) -> None:
    single, batched = (
        scores_of(untrained(3), paths, replace(SETTINGS, batch_size=size)) for size in (1, 4)
    )
    assert single == pytest.approx(batched, abs=1e-3)


def test_an_object_in_several_tiles_counts_once(tmp_path: Path) -> None:
    path = draw(tmp_path / "large.png", (96, 240), ((110, 30, 140, 60), RED))
    predictor = ColourPredictor(tiling=Tiling(96, 0.25))
    assert scores_of(predictor, [path], SETTINGS) == pytest.approx([0.274901], abs=0.02)
