"""Anchor fit against the reference, and its edges by hand."""

from __future__ import annotations

import json

import numpy as np
import pytest

from models.anchors import anchor_fit, in_stride_order, label_sizes

STRIDES = (8.0, 16.0, 32.0)


@pytest.mark.parametrize("mode", ["scale1", "random"])
@pytest.mark.parametrize("name", ["good_fit", "poor_fit", "wide_only"])
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


@pytest.mark.parametrize("name", ["good_fit", "poor_fit", "wide_only"])
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
        pytest.param([[10, 10]], 1.0, 1.0, id="the anchor itself"),
        pytest.param([[39, 10]], 1.0, 1.0, id="just within four"),
        pytest.param([[40, 10]], 0.0, 0.0, id="exactly four is outside"),
        pytest.param([[10, 2.4]], 0.0, 0.0, id="too flat"),
        pytest.param([[0, 10], [10, 10]], 0.5, 0.5, id="no width"),
        pytest.param(np.zeros((0, 2)), 1.0, 0.0, id="no boxes"),
    ],
)
def test_fit_by_hand(sizes, recall, count):
    fit = anchor_fit(np.array([[10.0, 10.0]]), np.array(sizes, dtype=float))
    assert (fit.best_possible_recall, fit.anchors_above_threshold) == (recall, count)


def test_label_sizes_without_labels():
    sizes = label_sizes(np.zeros((0, 4)), np.zeros(3, dtype=int), np.array([[4, 6], [6, 4]]), 64)
    assert sizes.shape == (0, 2)


def test_stride_order_equals_the_reference(golden):
    """golden/autoanchor.json, check_anchor_order: what v7.0 makes of four orders."""
    for case in json.loads(golden("autoanchor.json").read_text())["check_anchor_order"]:
        expected = [[size for pair in level for size in pair] for level in case["out"]]
        assert [list(row) for row in in_stride_order(case["in"], STRIDES)] == expected, case["name"]
