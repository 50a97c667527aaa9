"""Boxes: conversion, clipping, area and IoU against recorded and hand-made numbers."""

import json

import numpy as np
import pytest
import torch

from ops.boxes import aligned_iou, area, clip, cxcywh_to_xyxy, pairwise_iou

LIBRARIES = [pytest.param(np.asarray, id="numpy"), pytest.param(torch.as_tensor, id="torch")]


@pytest.fixture(scope="module")
def iou_arrays(golden):
    with np.load(golden("iou.npz"), allow_pickle=False) as file:
        return {key: torch.from_numpy(file[key]) for key in file.files}


@pytest.fixture(scope="module")
def iou_facts(golden):
    return json.loads(golden("iou.json").read_text())


@pytest.fixture(scope="module")
def letterbox_arrays(golden):
    with np.load(golden("letterbox.npz"), allow_pickle=False) as file:
        return {key: file[key] for key in file.files if key.startswith(("conv", "cb"))}


def test_conversion_matches_v7(letterbox_arrays):
    """Numbers of v7.0's conversion functions (letterbox.npz, conv.*)."""
    result = cxcywh_to_xyxy(torch.from_numpy(letterbox_arrays["conv.xyxy"]))
    np.testing.assert_allclose(result, letterbox_arrays["conv.xywh2xyxy"], rtol=0, atol=1e-12)


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("case", range(3))
def test_clip_matches_v7(golden, letterbox_arrays, library, case):
    """Numbers of v7.0's clip_boxes (letterbox.npz, cb*)."""
    arguments = json.loads(golden("letterbox.json").read_text())["clip_boxes"][case]
    boxes = library(letterbox_arrays[f"cb{case}.in"])
    result = clip(boxes, arguments["shape_hw"])
    assert type(result) is type(boxes)
    np.testing.assert_array_equal(result, letterbox_arrays[f"cb{case}.out"])


@pytest.mark.parametrize("library", LIBRARIES)
def test_the_argument_of_clip_is_left_alone(library):
    boxes = library(np.array([[-3.0, 2.0, 50.0, 70.0, 0.5]], np.float32))
    np.testing.assert_array_equal(clip(boxes, (40, 30)), [[0, 2, 30, 40, 0.5]])
    np.testing.assert_array_equal(boxes, [[-3, 2, 50, 70, 0.5]])


@pytest.mark.parametrize("library", LIBRARIES)
def test_area(library):
    """Of a box, of a line, and of one that is inside out."""
    boxes = np.array([[1.0, 2.0, 4.0, 8.0], [1.0, 2.0, 1.0, 8.0], [4.0, 8.0, 1.0, 2.0]])
    np.testing.assert_array_equal(area(library(boxes)), [18, 0, 0])


@pytest.mark.parametrize(("n", "m"), [(0, 3), (3, 0), (0, 0)])
def test_no_boxes_give_an_empty_table(n, m):
    assert pairwise_iou(torch.zeros(n, 4), torch.zeros(m, 4)).shape == (n, m)


def test_pairwise_iou_matches_v7(iou_arrays):
    """Numbers of v7.0's box_iou (metrics.npz, box_iou.*)."""
    result = pairwise_iou(iou_arrays["box_iou.box1"], iou_arrays["box_iou.box2"])
    torch.testing.assert_close(result, iou_arrays["box_iou.out"], rtol=0, atol=1e-6)


@pytest.mark.parametrize("kind", ["iou", "ciou"])
def test_aligned_iou_matches_v7(iou_arrays, iou_facts, kind):
    """Numbers of v7.0's bbox_iou (metrics.npz, iou.*), its degenerate rows included.

    In two of them v7.0 gives NaN from the aspect ratio 0/0; there ours is finite, and the same as
    v7.0's own result for corners.
    """
    expected = iou_arrays[f"iou.{kind}.xywh"].clone()
    nan_rows = iou_facts["nan_rows"][f"iou.{kind}.xywh"]
    expected[nan_rows] = iou_arrays[f"iou.{kind}.xyxy"][nan_rows]
    boxes = iou_arrays["iou.box1_xywh"], iou_arrays["iou.box2_xywh"]
    result = aligned_iou(*boxes, complete=kind == "ciou")
    torch.testing.assert_close(result, expected, rtol=0, atol=2e-6)


def test_ciou_gradients_match_v7(iou_arrays, iou_facts):
    """Gradients of v7.0's CIoU (metrics.npz); finite in degenerate rows, where v7.0 has NaN."""
    a = iou_arrays["iou.box1_xywh"].clone().requires_grad_()
    b = iou_arrays["iou.box2_xywh"].clone().requires_grad_()
    aligned_iou(a, b, complete=True).sum().backward()
    plain = slice(0, iou_facts["degenerate_rows_from"])
    for tensor, name in ((a, "grad_box1"), (b, "grad_box2")):
        expected = iou_arrays[f"iou.ciou.{name}"]
        torch.testing.assert_close(tensor.grad[plain], expected[plain], rtol=1e-3, atol=1e-5)
        assert tensor.grad.isfinite().all()
