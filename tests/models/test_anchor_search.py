"""The search for anchors: centres by hand, a search that pays, edges, the reference's recall."""

from __future__ import annotations

import json

import numpy as np
import pytest

from models.anchor_search import anchor_fitness, cluster_centres, refine_anchors, search_anchors
from models.anchors import anchor_fit


def generator(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def mixed_boxes(count: int = 400) -> np.ndarray:
    sides = np.exp(generator(1).uniform(np.log(4), np.log(500), (count, 2)))
    return sides.astype(np.float32)


def test_centres_of_three_heaps_are_their_means():
    heaps = np.array([[0.0, 0.0], [0.2, 0.0], [5.0, 5.0], [5.2, 5.0], [9.0, 1.0], [9.0, 1.4]])
    centres = cluster_centres(heaps, 3, generator=generator())
    assert centres is not None
    found = sorted(map(tuple, np.round(centres, 6).tolist()))
    assert found == [(0.1, 0.0), (5.1, 5.0), (9.0, 1.2)]


def test_fewer_points_than_centres_give_none():
    assert cluster_centres(np.ones((10, 2)), 2, generator=generator()) is None


@pytest.mark.parametrize(
    ("boxes", "fitness"),
    [
        pytest.param([[10, 10]], 1.0, id="the anchor itself"),
        pytest.param([[20, 10]], 0.5, id="twice as wide"),
        pytest.param([[10, 5], [10, 10]], 0.75, id="mean of two"),
        pytest.param([[41, 10]], 0.0, id="past the threshold"),
        pytest.param([[0, 10]], 0.0, id="no width"),
    ],
)
def test_fitness_by_hand(boxes, fitness):
    anchors = np.array([[10.0, 10.0], [1000.0, 1000.0]])
    assert anchor_fitness(anchors, np.array(boxes, float), 4.0) == pytest.approx(fitness, abs=1e-6)


def test_mutation_never_loses_and_gains_something():
    start = np.array([[8.0, 8.0], [300.0, 300.0]])
    boxes = mixed_boxes()
    before = anchor_fitness(start, boxes, 4.0)
    few, many = (
        anchor_fitness(
            refine_anchors(start, boxes, threshold=4.0, generator=generator(), generations=count),
            boxes,
            4.0,
        )
        for count in (10, 200)
    )
    assert before <= few <= many
    assert many > before + 0.02


def test_found_anchors_fit_better_than_the_stock_ones():
    stock = [[10, 13], [16, 30], [33, 23], [30, 61], [62, 45], [59, 119]]
    boxes = mixed_boxes()
    boxes[:, 1] = boxes[:, 0] / 7
    found = search_anchors(boxes, 6, image_size=640, threshold=4.0, generator=generator())
    assert found.shape == (6, 2)
    assert (np.diff(found.prod(axis=1)) >= 0).all()
    assert anchor_fit(np.array(stock), boxes).best_possible_recall < 0.5
    assert anchor_fit(found, boxes).best_possible_recall > 0.98


def test_the_same_seed_gives_the_same_anchors():
    first, again, other = (
        search_anchors(
            mixed_boxes(), 9, image_size=640, threshold=4.0, generator=generator(s), generations=50
        )
        for s in (3, 3, 4)
    )
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize(
    "boxes",
    [
        pytest.param(np.zeros((0, 2)), id="no boxes"),
        pytest.param(np.ones((5, 2)), id="all too small"),
        pytest.param(np.full((50, 2), 20.0), id="all the same"),
        pytest.param(np.stack([np.full(40, 9.0), np.arange(40.0)], 1), id="one width"),
    ],
)
def test_every_kind_of_boxes_gives_usable_anchors(boxes):
    found = search_anchors(boxes, 9, image_size=320, threshold=4.0, generator=generator())
    assert found.shape == (9, 2)
    assert np.isfinite(found).all()
    assert (found >= 2).all()


def test_more_boxes_than_are_looked_at():
    boxes = mixed_boxes(30_000)
    boxes[:, 1] = boxes[:, 0] / 7
    found = search_anchors(
        boxes, 9, image_size=640, threshold=4.0, generator=generator(), generations=20
    )
    assert anchor_fit(found, boxes).best_possible_recall > 0.98


@pytest.mark.parametrize("name", ["poor_fit", "wide_only"])
def test_recall_is_that_of_the_reference(name, golden):
    """golden/autoanchor: what v7.0's own search reached on the same boxes."""
    reference = json.loads(golden("autoanchor.json").read_text())[name]
    with np.load(golden("autoanchor.npz")) as arrays:
        sizes = arrays[f"{name}.scale1.wh_px"]
    found = search_anchors(sizes, 9, image_size=640, threshold=4.0, generator=generator())
    recall = anchor_fit(found, sizes, 4.0).best_possible_recall
    if reference["scale1"]["anchors_replaced"]:
        assert recall >= reference["scale1"]["new_bpr"] - 0.005
    assert recall > reference["scale1"]["bpr"]
