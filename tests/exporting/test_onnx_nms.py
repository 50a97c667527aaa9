"""NMS in the graph gives what `ops/nms.py` gives, and a wrong one is noticed."""

from __future__ import annotations

import dataclasses

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper

from exporting.export import export, verify
from exporting.onnx_nms import append_nms, check_nms, with_open_thresholds
from exporting.verify import ParityError
from ops.nms import NmsConfig, non_max_suppression
from utils.errors import TaskError


def graph_of(nms: NmsConfig, opset: int = 17) -> onnx.ModelProto:
    """NMS alone: a graph whose input is its decoded rows."""
    kind = (TensorProto.FLOAT, ["batch", "rows", "outputs"])
    graph = helper.make_graph(
        [helper.make_node("Identity", ["images"], ["output0"])],
        "rows",
        [helper.make_tensor_value_info("images", *kind)],
        [helper.make_tensor_value_info("output0", *kind)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=7)
    joined = append_nms(model, nms)
    onnx.checker.check_model(joined, full_check=True)
    return joined


def session_of(model: onnx.ModelProto) -> onnxruntime.InferenceSession:
    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = 3
    return onnxruntime.InferenceSession(
        model.SerializeToString(), settings, providers=["CPUExecutionProvider"]
    )


def expected(rows: np.ndarray, nms: NmsConfig) -> np.ndarray:
    """Return `detections` by ops/nms.py."""
    padded = np.zeros((len(rows), nms.max_detections, 6), np.float32)
    kept = non_max_suppression(torch.from_numpy(rows), nms)
    for image, found in zip(padded, kept, strict=True):
        image[: len(found.rows)] = found.rows.numpy()
    return padded


def crowd(batch: int, count: int, classes: int, seed: int = 0) -> np.ndarray:
    """Rows [b, n, 5 + classes] of boxes that overlap a lot, on a 200 px image."""
    generator = np.random.default_rng(seed)
    rows = generator.random((batch, count, 5 + classes), dtype=np.float32)
    rows[..., :2] *= 200
    rows[..., 2:4] = 10 + 60 * rows[..., 2:4]
    return rows


# Recorded from YOLOv5 v7.0.
RECORDED = np.array(
    [
        [50, 50, 20, 20, 0.9, 0.8, 0.1, 0.3],
        [52, 50, 20, 20, 0.8, 0.9, 0.05, 0.6],
        [50, 52, 20, 20, 0.95, 0.2, 0.9, 0.1],
        [150, 50, 40, 20, 0.2, 0.9, 0.9, 0.9],
        [150, 50, 42, 20, 0.6, 0.5, 0.4, 0.45],
        [10, 10, 1, 1, 0.3, 1, 0, 0],
    ],
    np.float32,
)[None]


@pytest.mark.parametrize(
    ("nms", "scores", "labels"),
    [
        pytest.param(NmsConfig(), [0.855, 0.72, 0.3, 0.3], [1, 0, 0, 0], id="defaults"),
        pytest.param(NmsConfig(class_agnostic=True), [0.855, 0.3, 0.3], [1, 0, 0], id="agnostic"),
        pytest.param(NmsConfig(max_detections=2), [0.855, 0.72], [1, 0], id="two at most"),
    ],
)
def test_recorded_case(nms, scores, labels):
    (found,) = session_of(graph_of(nms)).run(None, {"images": RECORDED})
    assert found.shape == (1, nms.max_detections, 6)
    np.testing.assert_allclose(found[0, : len(scores), 4], scores, atol=1e-6)
    assert found[0, : len(labels), 5].tolist() == labels
    assert not found[0, len(scores) :].any()


@pytest.mark.parametrize("opset", [11, 13, 18, 20])
@pytest.mark.parametrize("classes", [1, 3, 80])
@pytest.mark.parametrize(
    "nms",
    [
        pytest.param(NmsConfig(), id="defaults"),
        pytest.param(NmsConfig(confidence=0.001, iou=0.6), id="evaluation"),
        pytest.param(NmsConfig(confidence=1e-5, max_detections=7), id="few are kept"),
        pytest.param(NmsConfig(iou=0.2, class_agnostic=True), id="agnostic"),
        pytest.param(NmsConfig(confidence=0.0, iou=1.0, max_detections=600), id="everything"),
        pytest.param(NmsConfig(confidence=1.0), id="nothing"),
    ],
)
def test_same_as_our_own(nms, classes, opset):
    rows = crowd(3, 400, classes)
    rows[1, :, 4] = 0  # an image without detections among others
    (found,) = session_of(graph_of(nms, opset)).run(None, {"images": rows})
    np.testing.assert_allclose(found, expected(rows, nms), rtol=0, atol=1e-5)


def test_equal_scores_keep_their_order():
    rows = crowd(1, 200, 2)
    rows[..., 4:] = 0.75
    (found,) = session_of(graph_of(NmsConfig())).run(None, {"images": rows})
    np.testing.assert_array_equal(found, expected(rows, NmsConfig()))


def test_a_whole_file(detector, plain, tmp_path):
    options = dataclasses.replace(plain, nms=NmsConfig(0.3, 0.5, max_detections=30))
    path = tmp_path / "best.onnx"
    export(detector, "onnx", path=path, options=options)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (output,) = session.get_outputs()
    assert (output.name, output.shape) == ("detections", ["batch", 30, 6])
    images = np.random.default_rng(2).random((2, 3, 96, 128), dtype=np.float32)
    (found,) = session.run(None, {"images": images})
    rows = detector.fused().predict(torch.from_numpy(images)).numpy()
    assert (found[..., 4] > 0.3).any(axis=1).all(), "the test network detects nothing"
    # Rounding decides between scores that are all but equal, and so which of them suppresses.
    scores = np.sort(found[..., 4]), np.sort(expected(rows, options.nms)[..., 4])
    np.testing.assert_allclose(*scores, atol=5e-3)


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"iou": 0.7}, id="another overlap"),
        pytest.param({"class_agnostic": True}, id="classes not kept apart"),
        pytest.param({"confidence": 0.6}, id="another confidence"),
        pytest.param({"max_detections": 5}, id="another limit"),
    ],
)
def test_another_nms_is_noticed(detector, plain, tmp_path, change):
    options = dataclasses.replace(plain, nms=NmsConfig())
    path = tmp_path / "best.onnx"
    export(detector, "onnx", path=path, options=options)
    wanted = dataclasses.replace(options, nms=NmsConfig(**change))
    with pytest.raises(TaskError, match="its NMS keeps other detections"):
        verify(detector, "onnx", path=path, options=wanted)


def test_nms_is_checked_also_where_nothing_is_detected():
    """A network of low confidence must not make a broken NMS look right."""
    rows = crowd(1, 50, 3)
    rows[..., 4] *= 0.01
    right, wrong = (
        session_of(with_open_thresholds(graph_of(NmsConfig(iou=iou)))) for iou in (0.45, 0.9)
    )

    def detect(session):
        return lambda images, more: session.run(
            ["output0", "detections"], {"images": images, **more}
        )

    assert not right.run(None, {"images": rows})[0].any()
    np.testing.assert_array_equal(check_nms(detect(right), rows, NmsConfig()), rows)
    with pytest.raises(ParityError):
        check_nms(detect(wrong), rows, NmsConfig())
