"""best.onnx of a training and export.py's default, in every runtime that is installed."""

from __future__ import annotations

import cv2
import numpy as np
import onnx
import onnxruntime
import pytest
import torch

import export as program
from exporting.export import export, export_after_training
from exporting.format_openvino import EXACT
from exporting.options import ExportOptions
from models.checkpoint import checkpoint_of, save_checkpoint
from settings.train import TrainSettings
from tests.exporting.conftest import NAMES

SIDE = 96
IN_OPENCV_4 = {
    *("Add", "Concat", "Conv", "MaxPool", "Mul"),
    *("Reshape", "Resize", "Sigmoid", "Slice", "Transpose"),
}
"""Operators of a fixed file that OpenCV 4.8.1 and 4.11.0 were seen to read."""


def by_onnxruntime(path, images):
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session.run(None, {"images": images})[0]


def by_openvino(path, images):
    openvino = pytest.importorskip("openvino", reason="the optional package is not installed")
    return openvino.Core().compile_model(str(path), "CPU", EXACT)([images])[0]


def by_opencv(path, images):
    network = cv2.dnn.readNetFromONNX(str(path))
    network.setInput(images)
    return network.forward()


RUNTIMES = [by_onnxruntime, by_openvino, by_opencv]


@pytest.fixture(scope="module")
def folder(detector, tmp_path_factory):
    """A training's weights with what was exported from them."""
    folder = tmp_path_factory.mktemp("runtimes")
    weights = folder / "best.pt"
    save_checkpoint(weights, checkpoint_of(detector, NAMES))
    export_after_training(
        weights, detector, settings=TrainSettings(), class_names=NAMES, image_size=SIDE
    )
    default = ["--weights", str(weights), "--imgsz", str(SIDE), "--output"]
    assert program.main([*default, str(folder / "default.onnx")]) == 0
    assert program.main([*default, str(folder / "half.onnx"), "--half"]) == 0
    assert program.main([*default, str(folder / "any.onnx"), "--dynamic"]) == 0
    return folder


@pytest.mark.parametrize("run", RUNTIMES)
@pytest.mark.parametrize("name", ["best", "default", "half", "any"])
def test_a_file_gives_the_rows_of_its_network(folder, detector, name, run):
    images = np.random.default_rng(3).random((1, 3, SIDE, SIDE), dtype=np.float32)
    expected = detector.fused().predict(torch.from_numpy(images)).numpy()
    rows = run(folder / f"{name}.onnx", images)
    assert rows.shape == expected.shape == (1, 567, 8)
    close = {"atol": 1.0, "rtol": 0.02} if name == "half" else {"atol": 0.02, "rtol": 1e-3}
    np.testing.assert_allclose(rows, expected, **close)


@pytest.mark.parametrize("name", ["best", "default"])
def test_opencv_4_finds_no_operator_that_it_cannot_read(folder, name):
    graph = onnx.load(folder / f"{name}.onnx").graph
    assert {node.op_type for node in graph.node} <= IN_OPENCV_4
    (taken,) = graph.input
    assert [dim.dim_value for dim in taken.type.tensor_type.shape.dim] == [1, 3, SIDE, SIDE]


def test_openvino_states_what_makes_it_exact(small, tmp_path):
    openvino = pytest.importorskip("openvino", reason="the optional package is not installed")
    path = tmp_path / "best.xml"
    export(small, "openvino", path=path, options=ExportOptions(NAMES, size=(32, 32)))
    notes = openvino.Core().read_model(str(path)).get_rt_info(["model_info"])
    assert {key: str(notes[key]) for key in EXACT} == EXACT
