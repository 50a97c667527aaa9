"""Parts put together, and images without objects put in their place."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch

from inference.batching import WorkerPool
from mining.scores import (
    Scored,
    ScoredPart,
    ScoringContext,
    best_of_parts,
    counted,
    in_order,
    map_by_shape,
    place_empty,
)
from settings.detect import MiningSettings


def stream(*scores: float | None) -> list[Scored]:
    """Images 0.jpg, 1.jpg, ...; None is one without objects."""
    return [Scored(n, f"{n}.jpg", score, empty=score is None) for n, score in enumerate(scores)]


def test_largest_part_counts_and_class_vectors_are_joined() -> None:
    parts = [
        ScoredPart(0, "a", 2, 0.2, class_vector=np.array([0.9, 0.1])),
        ScoredPart(1, "b", 1, None),
        ScoredPart(2, "c", 1, None, unreadable=True),
        ScoredPart(0, "a", 2, 0.7, class_vector=np.array([0.3, 0.4])),
    ]
    found = list(best_of_parts(parts))
    assert [(one.path, one.score, one.empty) for one in found] == [
        ("b", None, True), ("c", None, False), ("a", 0.7, False),
    ]  # fmt: skip
    assert found[2].class_vector is not None
    assert found[2].class_vector.tolist() == [0.9, 0.4]


@pytest.mark.parametrize(("rule", "score"), [("first", 3.0), ("last", -2.0)])
def test_empty_images_at_an_end(rule: str, score: float) -> None:
    unreadable = Scored(3, "3.jpg", None)
    placed = place_empty([*stream(0.4, None, 0.6), unreadable], rule, first=3.0, last=-2.0, seed=0)
    assert [one.score for one in placed] == [0.4, score, 0.6, None]


def test_mixed_spreads_empty_images_evenly_through_the_ranking() -> None:
    """A thousand empty images among five: a fourth of them between each two neighbours."""
    scores = [0.1, 0.11, 0.12, 0.5, 0.9]
    mixed = list(place_empty(stream(*scores, *[None] * 1000), "mixed", first=1, last=0, seed=0))
    assert [one.score for one in mixed[:5]] == scores
    levels = [one.score for one in mixed[5:] if one.score is not None]
    counts = np.histogram(levels, scores)[0]
    assert counts.sum() == 1000
    assert (abs(counts - 250) < 60).all()  # four standard deviations


def test_mixed_follows_seed_and_name_only() -> None:
    images = stream(0.2, None, 0.8, None, None)

    def levels(order: list[Scored], seed: int) -> dict[str, float | None]:
        placed = place_empty(order, "mixed", first=1, last=0, seed=seed)
        return {one.path: one.score for one in placed}

    assert levels(images, 0) == levels(images[::-1], 0)
    assert levels(images, 0) != levels(images, 1)


def test_unreadable_images_are_below_every_score() -> None:
    images = [Scored(1, "b", None), Scored(0, "a", -10.0)]
    told: list[tuple[int, int]] = []
    rows = in_order(counted(images, 2, lambda *now: told.append(now)), ["a", "b"])
    assert rows == [("a", -10.0), ("b", -11.0)]
    assert told == [(1, 2), (2, 2)]
    assert in_order([Scored(0, "b", None)], ["b"]) == [("b", -1.0)]


class Item(NamedTuple):
    position: int
    shard: int
    shape: tuple[int, ...] | None


def test_groups_by_hand() -> None:
    """Shards of 4: the two of shape (2,) in the first share no group with that in the second."""
    predictor: Any = SimpleNamespace(pool=WorkerPool(torch.device("cpu")))
    shapes = [(1,), (2,), (1,), (2,), (2,), None, (1,)]
    groups: list[list[int]] = []

    def work(group: list[Item]) -> list[int]:
        groups.append([one.position for one in group])
        return [10 * one.position for one in group]

    made = map_by_shape(
        (Item(position, position // 4, shape) for position, shape in enumerate(shapes)),
        work,
        shape_of=lambda one: one.shape,
        context=ScoringContext(predictor, MiningSettings(batch_size=2), 7),
    )
    assert sorted(made) == [0, 10, 20, 30, 40, 50, 60]
    assert sorted(groups) == [[0, 2], [1, 3], [4], [5], [6]]
