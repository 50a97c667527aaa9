"""Boxes: conversions, clipping, area and the IoU family against recorded and hand-made numbers."""

import json

import numpy as np
import pytest
import torch

from ops.boxes import aligned_iou, area, clip, cxcywh_to_xyxy, pairwise_iou

LIBRARIES = [pytest.param(np.asarray, id="numpy"), pytest.param(torch.as_tensor, id="torch")]
KINDS = ["iou", "giou", "diou", "ciou"]


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


def random_boxes(count, seed=0):
    low = torch.rand(count, 2, generator=torch.Generator().manual_seed(seed)) * 50
    size = torch.rand(count, 2, generator=torch.Generator().manual_seed(seed + 1)) * 30
    return torch.cat((low, low + size), 1)


@pytest.mark.parametrize("library", LIBRARIES)
def test_conversion_matches_v7(letterbox_arrays, library):
    """Numbers of v7.0's xywh2xyxy (letterbox.npz, conv.*)."""
    result = cxcywh_to_xyxy(library(letterbox_arrays["conv.xyxy"]))
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
def test_arguments_are_left_alone(library):
    boxes = library(np.array([[-3.0, 2.0, 50.0, 70.0, 0.5]], np.float32))
    before = boxes.clone() if isinstance(boxes, torch.Tensor) else boxes.copy()
    clipped = clip(boxes, (40, 30))
    cxcywh_to_xyxy(boxes[:, :4])
    np.testing.assert_array_equal(boxes, before)
    np.testing.assert_array_equal(clipped, [[0, 2, 30, 40, 0.5]])


@pytest.mark.parametrize("library", LIBRARIES)
def test_whole_numbers_may_have_half_corners(library):
    boxes = library(np.array([[0, 0, 3, 5]]))
    np.testing.assert_array_equal(cxcywh_to_xyxy(boxes), [[-1.5, -2.5, 1.5, 2.5]])
    np.testing.assert_array_equal(clip(boxes, (2, 2)), [[0, 0, 2, 2]])


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize(
    ("box", "expected"),
    [
        pytest.param([1.0, 2.0, 4.0, 8.0], 18, id="plain"),
        pytest.param([1.0, 2.0, 1.0, 8.0], 0, id="line"),
        pytest.param([4.0, 8.0, 1.0, 2.0], 0, id="inside-out"),
    ],
)
def test_area(library, box, expected):
    np.testing.assert_array_equal(area(library(np.array([box]))), [expected])


@pytest.mark.parametrize("library", LIBRARIES)
def test_no_boxes_give_no_boxes(library):
    none = library(np.zeros((0, 4), np.float32))
    assert cxcywh_to_xyxy(none).shape == (0, 4)
    assert clip(none, (4, 4)).shape == (0, 4)
    assert area(none).shape == (0,)


@pytest.mark.parametrize(("n", "m"), [(0, 3), (3, 0), (0, 0)])
def test_no_boxes_give_an_empty_table(n, m):
    assert pairwise_iou(random_boxes(n), random_boxes(m)).shape == (n, m)
    assert aligned_iou(random_boxes(0), random_boxes(0), kind="ciou").shape == (0,)


def test_pairwise_iou_matches_v7(iou_arrays):
    """Numbers of v7.0's box_iou (metrics.npz, box_iou.*)."""
    result = pairwise_iou(iou_arrays["box_iou.box1"], iou_arrays["box_iou.box2"])
    torch.testing.assert_close(result, iou_arrays["box_iou.out"], rtol=0, atol=1e-6)


@pytest.mark.parametrize("layout", ["xyxy", "cxcywh"])
@pytest.mark.parametrize("kind", KINDS)
def test_aligned_iou_matches_v7(iou_arrays, iou_facts, kind, layout):
    """Numbers of v7.0's bbox_iou (metrics.npz, iou.*), its degenerate rows included.

    In two of them v7.0 gives NaN from the aspect ratio 0/0; there ours is finite, and the same as
    v7.0's own result in its other layout.
    """
    recorded = {"xyxy": "xyxy", "cxcywh": "xywh"}[layout]
    a, b = iou_arrays[f"iou.box1_{recorded}"], iou_arrays[f"iou.box2_{recorded}"]
    expected = iou_arrays[f"iou.{kind}.{recorded}"].clone()
    nan_rows = iou_facts["nan_rows"][f"iou.{kind}.{recorded}"]
    expected[nan_rows] = iou_arrays[f"iou.{kind}.xyxy"][nan_rows]
    result = aligned_iou(a, b, kind=kind, layout=layout)
    torch.testing.assert_close(result, expected, rtol=0, atol=2e-6)


def test_ciou_gradients_match_v7(iou_arrays, iou_facts):
    """Gradients of v7.0's CIoU (metrics.npz); finite in degenerate rows, where v7.0 has NaN."""
    a = iou_arrays["iou.box1_xywh"].clone().requires_grad_()
    b = iou_arrays["iou.box2_xywh"].clone().requires_grad_()
    aligned_iou(a, b, kind="ciou", layout="cxcywh").sum().backward()
    plain = slice(0, iou_facts["degenerate_rows_from"])
    for tensor, name in ((a, "grad_box1"), (b, "grad_box2")):
        expected = iou_arrays[f"iou.ciou.{name}"]
        torch.testing.assert_close(tensor.grad[plain], expected[plain], rtol=1e-3, atol=1e-5)
        assert tensor.grad.isfinite().all()
