"""Letterbox: plans, pixels and boxes against v7.0's recorded results, and there and back."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from ops.letterbox import (
    apply_evaluation,
    apply_letterbox,
    boxes_to_network,
    boxes_to_original,
    fit_long_side,
    plan_evaluation,
    plan_letterbox,
    rectangular_shapes,
    resize_image,
)

ROOT = Path(__file__).resolve().parent.parent.parent
CASES = json.loads((ROOT / "tests" / "golden" / "letterbox.json").read_text())
FULL = ROOT.parent / "shared" / "golden" / "letterbox.npz"
LIBRARIES = [pytest.param(np.asarray, id="numpy"), pytest.param(torch.as_tensor, id="torch")]


@pytest.fixture(scope="module")
def arrays(golden):
    """The whole reference file where it is at hand, else the extract without its larger images."""
    loaded = {}
    for path in (golden("letterbox.npz"), FULL):
        if path.is_file():
            with np.load(path, allow_pickle=False) as file:
                loaded |= {key: file[key] for key in file.files}
    return loaded


def pick(arrays, *keys):
    if not set(keys) <= set(arrays):
        pytest.skip("this image is only in the full reference file")
    return [arrays[key] for key in keys]


@pytest.fixture
def truncating(monkeypatch):
    """Sizes cut off, as in v7.0, where ours are rounded."""
    monkeypatch.setattr("ops.letterbox.round", int, raising=False)


def keeps_aspect_ratio(case):
    return case.get("auto", True) or not case.get("scaleFill", False)


def padding_of(plan):
    """Half the missing pixels (x, y), which v7.0 reports."""
    top, bottom, left, right = plan.borders
    return (left + right) / 2, (top + bottom) / 2


def planned(case, source_hw):
    target = case["new_shape"]
    return plan_letterbox(
        source_hw,
        (target, target) if isinstance(target, int) else tuple(target),
        minimal=case.get("auto", True),
        enlarge=case.get("scaleup", True),
        stride=case.get("stride", 32),
    )


@pytest.mark.parametrize("case", [*filter(keeps_aspect_ratio, CASES["letterbox"])])
def test_plan_matches_v7(case):
    """The calls of v7.0's letterbox in letterbox.json."""
    plan = planned(case, (case["h"], case["w"]))
    assert plan.source == (case["h"], case["w"])
    assert plan.shape == tuple(case["out_hw"])
    assert plan.resized == tuple(case["resized_wh"][::-1])
    assert padding_of(plan) == tuple(case["dw_dh"])
    assert plan.borders == tuple(case["top_bottom_left_right"])


@pytest.mark.parametrize(
    "case", [*filter(keeps_aspect_ratio, CASES["pixels"])], ids=lambda case: f"px{case['index']}"
)
def test_pixels_match_v7(arrays, case):
    """Images out of v7.0's letterbox (letterbox.npz, px*)."""
    image, expected = pick(arrays, f"px{case['index']}.in", f"px{case['index']}.out")
    plan = planned(case, image.shape[:2])
    np.testing.assert_array_equal(apply_letterbox(image, plan), expected)
    assert padding_of(plan) == tuple(case["dw_dh"])


@pytest.mark.parametrize(
    "case",
    CASES["dataset"]["load_image"],
    ids=lambda case: f"load{case['index']}-augment{int(case['augment'])}",
)
@pytest.mark.usefixtures("truncating")
def test_long_side_matches_v7(arrays, case):
    """Images out of v7.0's load_image (letterbox.npz, load*)."""
    name = f"load{case['index']}"
    image, expected = pick(arrays, f"{name}.src", f"{name}.augment{int(case['augment'])}")
    size = fit_long_side(image.shape[:2], case["img_size"])
    assert image.shape[:2] == tuple(case["hw0"])
    assert size == tuple(case["hw"])
    result = resize_image(image, size, area=not case["augment"])
    np.testing.assert_array_equal(result, expected)


def recorded_shapes(case):
    return rectangular_shapes(
        np.array(CASES["dataset"]["image_hw"]),
        image_size=case["img_size"],
        batch_size=case["batch_size"],
        stride=case["stride"],
        pad=case["pad"],
    )


@pytest.mark.parametrize(
    "case", CASES["dataset"]["val_items"], ids=lambda case: f"item{case['index']}"
)
@pytest.mark.usefixtures("truncating")
def test_evaluation_items_match_v7(arrays, case):
    """Validation items of v7.0 in its rectangular batches (letterbox.npz, item*).

    v7.0 shifts labels by half the missing pixels even where that ends in .5; the image lies at
    the border rounded down, and so do our boxes. That known difference is taken out here.
    """
    name = f"item{case['index']}"
    image, expected = pick(arrays, f"{name}.src", f"{name}.image")
    source_labels, expected_labels = pick(arrays, f"{name}.src_labels", f"{name}.labels")
    order, batch_index, shapes = recorded_shapes(case)
    assert order[case["index"]] == case["source_image"]
    height, width = shapes[batch_index[case["index"]]].tolist()
    plan = plan_evaluation(image.shape[:2], case["img_size"], (height, width))
    result = apply_evaluation(image, plan)
    np.testing.assert_array_equal(result[..., ::-1].transpose(2, 0, 1), expected)
    assert padding_of(plan) == tuple(case["pad_wh"])

    centre, half = source_labels[:, 1:3], source_labels[:, 3:] / 2
    unit = np.concatenate((centre - half, centre + half), 1)
    boxes = boxes_to_network(unit * np.tile(plan.source[::-1], 2), plan)
    boxes += np.tile(np.subtract(padding_of(plan), (plan.borders[2], plan.borders[0])), 2)
    low, high = boxes[:, :2], boxes[:, 2:]
    labels = np.concatenate(((low + high) / 2, high - low), 1) / np.tile((width, height), 2)
    np.testing.assert_allclose(labels, expected_labels[:, 2:], rtol=0, atol=1e-5)


@pytest.mark.parametrize("case", CASES["dataset"]["rect"], ids=lambda case: f"{case['img_size']}")
def test_rectangular_shapes_match_v7(case):
    """Batch shapes of v7.0's data set (letterbox.json, dataset.rect)."""
    order, batch_index, shapes = recorded_shapes(case)
    assert order.tolist() == case["image_order"]
    assert batch_index.tolist() == case["batch_of_image"]
    assert shapes.tolist() == case["batch_shapes_hw"]


def test_every_image_fits_its_rectangular_shape():
    """Without spare strides too, so that evaluation never shrinks an image a second time."""
    sizes = np.random.default_rng(4).integers(1, 3000, (500, 2))
    order, batch_index, shapes = rectangular_shapes(sizes, image_size=640, batch_size=7, pad=0.0)
    for image, batch in zip(order, batch_index, strict=True):
        source = (int(sizes[image, 0]), int(sizes[image, 1]))
        plan = plan_evaluation(source, 640, tuple(shapes[batch].tolist()))
        assert plan.resized == fit_long_side(source, 640)
        assert plan.shape == tuple(shapes[batch])


def test_no_images_give_no_batches():
    found = rectangular_shapes(np.zeros((0, 2), np.int32), image_size=640, batch_size=4)
    assert [one.shape for one in found] == [(0,), (0,), (0, 2)]


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ((129, 168), (246, 320)),
        ((10, 20000), (1, 320)),
        ((100, 100), (320, 320)),
        ((50, 77), (208, 320)),  # the long side is one short in v7.0
    ],
)
def test_long_side_is_rounded(source, expected):
    assert fit_long_side(source, 320) == expected


PLANS = [
    pytest.param(plan_letterbox((333, 500), (640, 640)), id="square"),
    pytest.param(plan_letterbox((333, 500), (640, 640), minimal=True), id="minimal"),
    pytest.param(plan_letterbox((100, 201), (640, 640), enlarge=False), id="odd-border"),
    pytest.param(plan_evaluation((333, 500), 320, (256, 352)), id="evaluation"),
    pytest.param(plan_evaluation((500, 333), 320, (224, 224)), id="evaluation-in-small-shape"),
]


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("plan", PLANS)
def test_boxes_go_there_and_back(plan, library):
    corners = np.random.default_rng(0).random((20, 2, 2)) * plan.source[::-1]
    boxes = np.concatenate((corners.min(1), corners.max(1)), 1).astype(np.float32)
    given = library(boxes.copy())
    there = boxes_to_network(given, plan)
    back = boxes_to_original(there, plan)
    assert type(back) is type(given)
    np.testing.assert_allclose(back, boxes, atol=2e-4)
    np.testing.assert_array_equal(given, boxes)


@pytest.mark.parametrize("plan", PLANS)
@pytest.mark.parametrize("apply", [apply_letterbox, apply_evaluation])
def test_the_whole_image_lies_where_the_boxes_say(plan, apply):
    """A white image is white inside the box of the whole image, and grey outside."""
    image = np.full((*plan.source, 3), 255, np.uint8)
    result = apply(image, plan)
    height, width = plan.source
    whole = boxes_to_network(np.array([[0.0, 0.0, width, height]]), plan)
    left, top, right, bottom = whole.round().astype(int)[0]
    assert result.shape == (*plan.shape, 3)
    assert (result[top:bottom, left:right] == 255).all()
    assert (result == 255).all(2).sum() == (bottom - top) * (right - left)
    assert (image == 255).all()


def test_a_plan_that_does_nothing_gives_a_new_image():
    image = np.random.default_rng(0).integers(0, 256, (64, 96, 3), np.uint8)
    for apply in (apply_letterbox, apply_evaluation):
        result = apply(image, plan_letterbox((64, 96), (64, 96)))
        assert np.array_equal(result, image)
        assert not np.shares_memory(result, image)


@pytest.mark.parametrize("library", LIBRARIES)
def test_further_columns_are_kept_and_boxes_clipped(library):
    plan = plan_letterbox((720, 1280), (384, 640))
    boxes = np.array([[100, 50, 300, 200, 0.5, 3], [-5, -5, 700, 400, 0.9, 1]], np.float32)
    expected = [[200, 76, 600, 376, 0.5, 3], [0, 0, 1280, 720, 0.9, 1]]
    np.testing.assert_allclose(boxes_to_original(library(boxes), plan), expected, rtol=1e-6)
    assert boxes_to_original(library(boxes[:0]), plan).shape == (0, 6)
