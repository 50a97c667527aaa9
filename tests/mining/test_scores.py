"""Parts put together, and images without objects put in their place."""

from __future__ import annotations

import numpy as np
import pytest

from inference.predictions import Prediction
from mining.scores import (
    Scored,
    ScoredPart,
    best_of_parts,
    in_order,
    place_empty,
    window_size,
)
from settings.detect import MiningSettings


def stream(*scores: float | None) -> list[Scored]:
    """Images 0.jpg, 1.jpg, ...; None is one without objects."""
    return [Scored(n, f"{n}.jpg", score, empty=score is None) for n, score in enumerate(scores)]


def test_largest_part_counts_and_class_vectors_are_joined() -> None:
    tile = Prediction(0, "a", (9, 9), tiles=2)
    parts = [
        ScoredPart(tile, 0.2, np.array([0.9, 0.1])),
        ScoredPart(Prediction(1, "b", (9, 9))),
        ScoredPart(Prediction(2, "c", None, error="broken")),
        ScoredPart(tile, 0.7, np.array([0.3, 0.4])),
    ]
    found = list(best_of_parts(parts))
    assert [(one.path, one.score, one.empty) for one in found] == [
        ("b", None, True), ("c", None, False), ("a", 0.7, False),
    ]  # fmt: skip
    assert found[2].class_vector is not None
    assert found[2].class_vector.tolist() == [0.9, 0.4]


def placed(images: list[Scored], rule: str, seed: int = 0) -> dict[str, float | None]:
    settings = MiningSettings(empty_images=rule, seed=seed)
    return {one.path: one.score for one in place_empty(images, settings, first=3.0, last=-2.0)}


@pytest.mark.parametrize(("rule", "score"), [("first", 3.0), ("last", -2.0)])
def test_empty_images_at_an_end(rule: str, score: float) -> None:
    images = [*stream(0.4, None, 0.6), Scored(3, "3.jpg", None)]
    assert list(placed(images, rule).values()) == [0.4, score, 0.6, None]


def test_mixed_spreads_empty_images_evenly_through_the_ranking() -> None:
    """A thousand empty images among five: a fourth of them between each two neighbours."""
    scores = [0.1, 0.11, 0.12, 0.5, 0.9]
    mixed = list(placed(stream(*scores, *[None] * 1000), "mixed").values())
    assert mixed[:5] == scores
    counts = np.histogram(np.array(mixed[5:], float), scores)[0]
    assert counts.sum() == 1000
    assert (abs(counts - 250) < 60).all()  # four standard deviations


def test_mixed_follows_seed_and_name_only() -> None:
    images = stream(0.2, None, 0.8, None, None)
    assert placed(images, "mixed") == placed(images[::-1], "mixed")
    assert placed(images, "mixed") != placed(images, "mixed", seed=1)


def test_unreadable_images_are_below_every_score() -> None:
    images = [Scored(1, "b", None), Scored(0, "a", -10.0)]
    assert in_order(images, ["a", "b"]) == [("a", -10.0), ("b", -11.0)]
    assert in_order([Scored(0, "b", None)], ["b"]) == [("b", -1.0)]


@pytest.mark.parametrize(
    ("setting", "candidates", "expected"),
    [(-1, 100, 25), (-1, 1, 1), (-1, 1_000_000, 10_000), (0, 100, 0), (500, 100, 500)],
)
def test_window_size(setting: int, candidates: int, expected: int) -> None:
    assert window_size(setting, candidates, 0.25, limit=10_000) == expected
