"""The ONNX file: free or fixed sizes, operator sets, metadata, simplification."""

from __future__ import annotations

import ast
import dataclasses

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from exporting.export import export, verify
from exporting.onnx_file import LAST_TRACED_OPSET, write_onnx
from exporting.options import ExportOptions
from ops.nms import NmsConfig
from tests.exporting.conftest import NAMES


def run(path, images, **more):
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session.run(None, {"images": images, **more})[0]


@pytest.fixture(scope="module")
def exported(detector, tmp_path_factory):
    path = tmp_path_factory.mktemp("onnx") / "best.onnx"
    export(detector, "onnx", path=path, options=ExportOptions(NAMES, size=(320, 256)))
    return path


@pytest.mark.slow
@pytest.mark.parametrize(("batch", "height", "width"), [(1, 64, 64), (3, 96, 160)])
def test_batch_and_size_are_free(exported, detector, batch, height, width):
    images = np.random.default_rng(1).random((batch, 3, height, width), dtype=np.float32)
    rows = run(exported, images)
    assert rows.shape == (batch, 3 * 21 * height * width // 1024, 8)
    expected = detector.fused().predict(torch.from_numpy(images)).numpy()
    np.testing.assert_allclose(rows, expected, atol=0.05, rtol=1e-3)


@pytest.mark.slow
def test_metadata(exported):
    model = onnx.load(exported)
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    assert metadata.keys() == {"stride", "names", "imgsz"}
    assert metadata["stride"] == "32"
    assert metadata["imgsz"] == "[320, 256]"
    assert ast.literal_eval(metadata["names"]) == dict(enumerate(NAMES))
    assert model.opset_import[0].version == 17
    assert [p.name for p in exported.parent.iterdir()] == ["best.onnx"]


def test_metadata_of_what_differs(small, plain, tmp_path):
    options = dataclasses.replace(plain, half=True, nms=NmsConfig(iou=0.6))
    write_onnx(small, tmp_path / "a.onnx", options)
    model = onnx.load(tmp_path / "a.onnx")
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    assert "float16" in metadata["precision"]
    expected = {"confidence": 0.25, "iou": 0.6, "max_detections": 300, "class_agnostic": False}
    assert ast.literal_eval(metadata["nms"]) == expected
    kinds = {entry.data_type for entry in model.graph.initializer if len(entry.dims) == 4}
    assert kinds == {onnx.TensorProto.FLOAT16}


def test_a_fixed_shape(small, plain, tmp_path):
    options = dataclasses.replace(plain, dynamic=False, batch_size=2, size=(64, 32))
    path = tmp_path / "fixed.onnx"
    export(small, "onnx", path=path, options=options)
    (taken,) = onnxruntime.InferenceSession(str(path)).get_inputs()
    assert taken.shape == [2, 3, 64, 32]
    with pytest.raises(onnxruntime.capi.onnxruntime_pybind11_state.InvalidArgument):
        run(path, np.zeros((1, 3, 64, 32), np.float32))


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("opset", [11, 12, 13, 17, 18, LAST_TRACED_OPSET])
def test_traced_operator_sets(small, plain, tmp_path, opset, half):
    options = dataclasses.replace(plain, opset=opset, half=half, nms=NmsConfig())
    export(small, "onnx", path=tmp_path / "a.onnx", options=options)
    model = onnx.load(tmp_path / "a.onnx")
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", opset)]


@pytest.mark.slow
@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("dynamic", [False, True])
@pytest.mark.parametrize("opset", [LAST_TRACED_OPSET + 1, 27])
def test_operator_sets_beyond_the_tracing_exporter(small, plain, tmp_path, opset, dynamic, half):
    if torch.__version__.startswith("2.4"):
        pytest.skip("the graph exporter of torch 2.4 is another one")
    if opset > onnx.defs.onnx_opset_version():
        pytest.skip("this onnx does not know the operator set")
    options = dataclasses.replace(plain, opset=opset, half=half, dynamic=dynamic, nms=NmsConfig())
    export(small, "onnx", path=tmp_path / "a.onnx", options=options)
    assert onnx.load(tmp_path / "a.onnx").opset_import[0].version == opset


@pytest.mark.slow
@pytest.mark.parametrize("nms", [None, NmsConfig()])
def test_simplified_is_smaller_and_standard(detector, plain, tmp_path, nms):
    nodes = []
    for simplify in (False, True):
        options = dataclasses.replace(plain, simplify=simplify, nms=nms)
        export(detector, "onnx", path=tmp_path / "a.onnx", options=options)
        model = onnx.load(tmp_path / "a.onnx")
        assert [entry.domain for entry in model.opset_import] == [""]
        assert {entry.key for entry in model.metadata_props} >= {"stride", "names", "imgsz"}
        nodes.append(len(model.graph.node))
    assert nodes[1] < 0.8 * nodes[0]
    assert [path.name for path in tmp_path.iterdir()] == ["a.onnx"]


@pytest.mark.slow
def test_a_small_change_of_one_bias_is_noticed(exported, detector, plain):
    changed = detector.fused()
    changed.head.m[0].bias.data.add_(0.1)
    with pytest.raises(Exception, match="does not compute"):
        verify(changed, "onnx", path=exported, options=plain)
