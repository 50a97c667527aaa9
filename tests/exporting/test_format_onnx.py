"""ONNX files: free or fixed sizes, operator sets, metadata, simplification; the neck; silence."""

from __future__ import annotations

import ast
import contextlib
import dataclasses
import logging
import warnings

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from exporting import format_onnx
from exporting.export import export
from exporting.format_onnx import LAST_TRACED_OPSET
from exporting.neck_onnx import NeckExtractor, output_names, quiet_converters, write_neck
from exporting.options import ExportOptions
from ops.nms import NmsConfig
from tests.exporting.conftest import NAMES


def infer(path, images, **more):
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session.run(None, {"images": images, **more})[0]


def metadata_of(model):
    return {entry.key: entry.value for entry in model.metadata_props}


@pytest.fixture(scope="module")
def exported(detector, tmp_path_factory):
    path = tmp_path_factory.mktemp("onnx") / "best.onnx"
    export(detector, "onnx", path=path, options=ExportOptions(NAMES, size=(320, 256), dynamic=True))
    return path


@pytest.mark.parametrize(("batch", "height", "width"), [(1, 64, 64), (3, 96, 160)])
def test_batch_and_size_are_free(exported, detector, batch, height, width):
    images = np.random.default_rng(1).random((batch, 3, height, width), dtype=np.float32)
    rows = infer(exported, images)
    assert rows.shape == (batch, 3 * 21 * height * width // 1024, 8)
    expected = detector.fused().predict(torch.from_numpy(images)).numpy()
    np.testing.assert_allclose(rows, expected, atol=0.05, rtol=1e-3)


def test_metadata(exported, small, plain, tmp_path):
    model = onnx.load(exported)
    metadata = metadata_of(model)
    assert ast.literal_eval(metadata.pop("names")) == dict(enumerate(NAMES))
    assert metadata == {"stride": "32", "imgsz": "[320, 256]"}
    assert model.opset_import[0].version == 17
    assert [p.name for p in exported.parent.iterdir()] == ["best.onnx"]
    options = dataclasses.replace(plain, half=True, nms=NmsConfig(iou=0.6))
    format_onnx.write(small, tmp_path / "a.onnx", options)
    model = onnx.load(tmp_path / "a.onnx")
    metadata = metadata_of(model)
    assert "float16" in metadata["precision"]
    assert ast.literal_eval(metadata["nms"]) == {
        **{"confidence": 0.25, "iou": 0.6, "max_detections": 300, "class_agnostic": False}
    }
    kinds = {entry.data_type for entry in model.graph.initializer if len(entry.dims) == 4}
    assert kinds == {onnx.TensorProto.FLOAT16}


def test_a_fixed_shape(small, plain, tmp_path):
    options = dataclasses.replace(plain, dynamic=False, batch_size=2, size=(64, 32))
    path = tmp_path / "fixed.onnx"
    export(small, "onnx", path=path, options=options)
    (taken,) = onnxruntime.InferenceSession(str(path)).get_inputs()
    assert taken.shape == [2, 3, 64, 32]
    with pytest.raises(onnxruntime.capi.onnxruntime_pybind11_state.InvalidArgument):
        infer(path, np.zeros((1, 3, 64, 32), np.float32))


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("opset", [11, 12, 13, 17, 18, LAST_TRACED_OPSET])
def test_traced_operator_sets(small, plain, tmp_path, opset, half):
    options = dataclasses.replace(plain, opset=opset, half=half, nms=NmsConfig())
    export(small, "onnx", path=tmp_path / "a.onnx", options=options)
    (entry,) = onnx.load(tmp_path / "a.onnx").opset_import
    assert (entry.domain, entry.version) == ("", opset)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("opset", "dynamic", "half"),
    [(LAST_TRACED_OPSET + 1, True, False), (LAST_TRACED_OPSET + 1, False, True), (27, True, True)],
)
def test_operator_sets_beyond_the_tracing_exporter(small, plain, tmp_path, opset, dynamic, half):
    if torch.__version__.startswith("2.4"):
        pytest.skip("the graph exporter of torch 2.4 is another one")
    if opset > onnx.defs.onnx_opset_version():
        pytest.skip("this onnx does not know the operator set")
    options = dataclasses.replace(plain, opset=opset, half=half, dynamic=dynamic, nms=NmsConfig())
    export(small, "onnx", path=tmp_path / "a.onnx", options=options)
    assert onnx.load(tmp_path / "a.onnx").opset_import[0].version == opset


@pytest.mark.parametrize("nms", [None, NmsConfig()])
def test_simplified_is_smaller_and_standard(detector, plain, tmp_path, nms):
    nodes = []
    for simplify in (False, True):
        options = dataclasses.replace(plain, simplify=simplify, nms=nms)
        export(detector, "onnx", path=tmp_path / "a.onnx", options=options)
        model = onnx.load(tmp_path / "a.onnx")
        assert [entry.domain for entry in model.opset_import] == [""]
        assert metadata_of(model).keys() >= {"stride", "names", "imgsz"}
        nodes.append(len(model.graph.node))
    assert nodes[1] < 0.8 * nodes[0]
    assert [path.name for path in tmp_path.iterdir()] == ["a.onnx"]


@pytest.fixture(scope="module")
def network(detector):
    return detector.fused().to(memory_format=torch.channels_last)


@pytest.mark.parametrize(("half", "tolerance"), [(False, 1e-5), (True, 0.05)])
def test_the_neck_gives_the_inputs_of_the_head_in_float32(network, half, tolerance):
    images = torch.rand(2, 3, 64, 96)
    with torch.no_grad():
        found, expected = NeckExtractor(network, half=half)(images), network.head_inputs(images)
        raw = network.head(found)
    for one, other in zip(found, expected, strict=True):
        assert one.dtype == torch.float32
        assert (one - other).abs().max() <= tolerance * other.abs().max()
    if not half:
        torch.testing.assert_close(network.decode(raw), network.predict(images))


@pytest.mark.parametrize("half", [False, True])
def test_the_file_of_the_neck_names_its_maps_and_leaves_the_network(network, tmp_path, half):
    before = {key: value.clone() for key, value in network.state_dict().items()}
    write_neck(network, tmp_path / "neck.onnx", half=half)
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    weight = network.model[0].conv.weight
    assert weight.is_contiguous(memory_format=torch.channels_last)
    graph = onnx.load(tmp_path / "neck.onnx").graph
    assert [one.name for one in graph.output] == output_names(3) == ["level0", "level1", "level2"]
    sides = [[side.dim_param for side in one.type.tensor_type.shape.dim] for one in graph.input]
    assert sides == [["batch", "", "height", "width"]]


@pytest.mark.parametrize("verbose", [False, True])
def test_converters_are_silent_unless_asked(verbose, capsys, caplog):
    logger = logging.getLogger("torch.onnx")
    # A task's log, set up by another test, lets only errors of this logger through.
    caplog.set_level(logging.WARNING, logger="torch.onnx")
    before = logger.level
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with contextlib.suppress(RuntimeError), quiet_converters(verbose=verbose):
            print("progress")
            logger.warning("a log line")
            warnings.warn("old", DeprecationWarning, stacklevel=1)
            raise RuntimeError
    heard = [bool(capsys.readouterr().out), bool(caplog.records), bool(caught)]
    assert heard == [verbose] * 3
    assert logger.level == before
