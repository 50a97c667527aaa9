"""Anchor fit and anchor search against v7.0's autoanchor, and their edge cases by hand."""

from __future__ import annotations

import json

import numpy as np
import pytest

from models import anchors as subject
from models.anchors import (
    anchor_fit,
    cluster_centres,
    in_stride_order,
    label_sizes,
    refine_anchors,
    search_anchors,
)

STRIDES = (8.0, 16.0, 32.0)
NAMES = pytest.mark.parametrize("name", ["good_fit", "poor_fit", "wide_only"])


def generator(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def mixed_boxes(count: int = 400) -> np.ndarray:
    sides = np.exp(generator(1).uniform(np.log(4), np.log(500), (count, 2)))
    return sides.astype(np.float32)


def search(boxes: np.ndarray, count: int = 9, seed: int = 0, image_size: int = 640) -> np.ndarray:
    given = {"image_size": image_size, "threshold": 4.0, "generator": generator(seed)}
    return search_anchors(boxes, count, **given)


@pytest.fixture
def few_generations(monkeypatch) -> None:
    monkeypatch.setattr(subject, "GENERATIONS", 20)


@pytest.mark.parametrize("mode", ["scale1", "random"])
@NAMES
def test_fit_equals_the_reference(name, mode, golden):
    """golden/autoanchor: check_anchors of YOLOv5 v7.0 on synthetic labels."""
    reference = json.loads(golden("autoanchor.json").read_text())[name]
    with np.load(golden("autoanchor.npz")) as arrays:
        sizes = arrays[f"{name}.{mode}.wh_px"]
    anchors = np.array(reference["default_anchors_px"]).reshape(-1, 2)
    fit = anchor_fit(anchors, sizes, reference["thr"])
    assert fit.best_possible_recall == pytest.approx(reference[mode]["bpr"], abs=1e-6)
    assert fit.anchors_above_threshold == pytest.approx(reference[mode]["aat"], abs=1e-6)
    assert fit.good is not reference[mode]["kmeans_run"]


@NAMES
def test_label_sizes_equal_the_reference(name, golden):
    """The sizes that entered the reference's metric, from its normalised labels."""
    image_size = json.loads(golden("autoanchor.json").read_text())[name]["imgsz"]
    with np.load(golden("autoanchor.npz")) as arrays:
        images, labels = arrays[f"{name}.shapes_wh"], arrays[f"{name}.labels"]
        owner, expected = arrays[f"{name}.image_index"], arrays[f"{name}.scale1.wh_px"]
    corners = np.zeros((len(labels), 4))
    corners[:, 2:] = labels[:, 3:5].astype(float) * images[owner]
    offsets = np.searchsorted(owner, np.arange(len(images) + 1))
    sizes = label_sizes(corners, offsets, images[:, ::-1], image_size)
    np.testing.assert_allclose(sizes, expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("sizes", "recall", "count"),
    [
        pytest.param([[10, 10]], 1.0, 1.0, id="equal to the anchor"),
        pytest.param([[39, 10]], 1.0, 1.0, id="just below the threshold"),
        pytest.param([[40, 10]], 0.0, 0.0, id="threshold is exclusive"),
        pytest.param([[10, 2.4]], 0.0, 0.0, id="too flat"),
        pytest.param([[0, 10], [10, 10]], 0.5, 0.5, id="no width"),
        pytest.param(np.zeros((0, 2)), 1.0, 0.0, id="no boxes"),
    ],
)
def test_fit_by_hand(sizes, recall, count):
    fit = anchor_fit(np.array([[10.0, 10.0]]), np.array(sizes, dtype=float))
    assert (fit.best_possible_recall, fit.anchors_above_threshold) == (recall, count)


def test_stride_order_equals_the_reference(golden):
    """golden/autoanchor.json, check_anchor_order: what v7.0 makes of four orders."""
    for case in json.loads(golden("autoanchor.json").read_text())["check_anchor_order"]:
        expected = [[size for pair in level for size in pair] for level in case["out"]]
        assert [list(row) for row in in_stride_order(case["in"], STRIDES)] == expected, case["name"]


def test_kmeans_centres_are_the_means_of_clusters():
    points = np.array([[0.0, 0.0], [0.2, 0.0], [5.0, 5.0], [5.2, 5.0], [9.0, 1.0], [9.0, 1.4]])
    centres = cluster_centres(points, 3, generator())
    assert centres is not None
    found = sorted(map(tuple, np.round(centres, 6).tolist()))
    assert found == [(0.1, 0.0), (5.1, 5.0), (9.0, 1.2)]
    assert cluster_centres(np.ones((10, 2)), 2, generator()) is None


def test_mutation_never_lowers_the_fitness(monkeypatch):
    """Mean share of the best anchor's side, 0 beyond the threshold: v7.0's, by divisions here."""
    start, boxes, seen = np.array([[8.0, 8.0], [300.0, 300.0]]), mixed_boxes(), []
    for count in (0, 10, 200):
        monkeypatch.setattr(subject, "GENERATIONS", count)
        ratio = boxes[:, None] / refine_anchors(start, boxes, 4.0, generator())
        best = np.minimum(ratio, 1 / ratio).min(axis=2).max(axis=1)
        seen.append((best * (best > 1 / 4)).mean())
    assert seen[0] <= seen[1] <= seen[2]
    assert seen[2] > seen[0] + 0.02


@pytest.mark.usefixtures("few_generations")
@pytest.mark.parametrize("count", [400, 30_000], ids=["all boxes", "a sample of the boxes"])
def test_found_anchors_fit_better_than_the_stock_ones(count):
    stock = [[10, 13], [16, 30], [33, 23], [30, 61], [62, 45], [59, 119]]
    boxes = mixed_boxes(count)
    boxes[:, 1] = boxes[:, 0] / 7
    found = search(boxes, 6)
    assert found.shape == (6, 2)
    assert (np.diff(found.prod(axis=1)) >= 0).all()
    assert anchor_fit(np.array(stock), boxes).best_possible_recall < 0.5
    assert anchor_fit(found, boxes).best_possible_recall > 0.98


@pytest.mark.usefixtures("few_generations")
def test_the_same_seed_gives_the_same_anchors():
    first, again, other = (search(mixed_boxes(), seed=seed) for seed in (3, 3, 4))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


@pytest.mark.usefixtures("few_generations")
@pytest.mark.parametrize(
    "boxes",
    [
        pytest.param(np.zeros((0, 2)), id="no boxes"),
        pytest.param(np.ones((5, 2)), id="all too small"),
        pytest.param(np.full((50, 2), 20.0), id="all the same"),
        pytest.param(np.stack([np.full(40, 9.0), np.arange(40.0)], 1), id="one width"),
    ],
)
def test_degenerate_boxes_give_usable_anchors(boxes):
    found = search(boxes, image_size=320)
    assert found.shape == (9, 2)
    assert np.isfinite(found).all()
    assert (found >= 2).all()


@pytest.mark.parametrize("name", ["poor_fit", "wide_only"])
def test_recall_after_the_search_is_that_of_the_reference(name, golden):
    """golden/autoanchor: what v7.0's own search reached on the same boxes."""
    reference = json.loads(golden("autoanchor.json").read_text())[name]
    with np.load(golden("autoanchor.npz")) as arrays:
        sizes = arrays[f"{name}.scale1.wh_px"]
    recall = anchor_fit(search(sizes), sizes, 4.0).best_possible_recall
    if reference["scale1"]["anchors_replaced"]:
        assert recall >= reference["scale1"]["new_bpr"] - 0.005
    assert recall > reference["scale1"]["bpr"]
