"""After a training: what was asked for lies beside the weights, and a failure is only a warning."""

from __future__ import annotations

import dataclasses
import logging
import sys

import onnx
import pytest

from exporting.after_training import export_beside, options_of
from exporting.export import FORMATS
from ops.nms import NmsConfig
from settings.train import TrainSettings
from tests.exporting.conftest import NAMES


def beside(weights, detector, **settings):
    return export_beside(
        weights,
        detector,
        settings=TrainSettings(**settings),
        class_names=NAMES,
        image_size=96,
    )


@pytest.fixture
def weights(tmp_path):
    path = tmp_path / "best.pt"
    path.write_bytes(b"weights")
    return path


@pytest.mark.parametrize(
    ("settings", "names"),
    [
        pytest.param({}, ["best.onnx"], id="by default ONNX"),
        pytest.param({"onnx": False}, [], id="nothing"),
        pytest.param(
            {"model_formats": ("safetensors", "state-dict", "torchscript")},
            ["best.onnx", "best.safetensors", "best.state_dict", "best.torchscript"],
            id="more",
        ),
    ],
)
def test_what_lies_beside(small, weights, settings, names):
    files = beside(weights, small, **settings)
    assert [path.name for path in files] == names
    assert {path.name for path in weights.parent.iterdir()} == {"best.pt", *names}


def test_both_files_of_openvino_are_listed(small, weights):
    pytest.importorskip("openvino", reason="the optional package is not installed")
    files = beside(weights, small, onnx=False, model_formats=("openvino",))
    assert [path.name for path in files] == ["best.xml", "best.bin"]


def test_a_missing_package_is_a_warning_and_the_rest_is_there(small, weights, caplog, monkeypatch):
    monkeypatch.setitem(sys.modules, "openvino", None)
    files = beside(weights, small, model_formats=("openvino", "state-dict"))
    assert [path.name for path in files] == ["best.onnx", "best.state_dict"]
    (warning,) = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert "best.xml was not written, the weights are kept: " in warning
    assert "needs the package openvino" in warning
    assert weights.read_bytes() == b"weights"


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), MemoryError()])
def test_no_failure_of_an_export_ends_the_training(small, weights, caplog, monkeypatch, error):
    def fail(*_):
        raise error

    monkeypatch.setitem(FORMATS, "onnx", dataclasses.replace(FORMATS["onnx"], write=fail))
    assert beside(weights, small) == []
    assert "best.onnx was not written" in caplog.text
    assert [path.name for path in weights.parent.iterdir()] == ["best.pt"]


def test_a_file_that_disagrees_is_told_and_not_listed(small, weights, caplog, monkeypatch):
    real = FORMATS["onnx"]

    def spoil(detector, path, options):
        wrong = detector.fused()
        wrong.head.m[0].bias.data.add_(0.5)
        real.write(wrong, path, options)

    monkeypatch.setitem(FORMATS, "onnx", dataclasses.replace(real, write=spoil))
    assert beside(weights, small) == []
    assert "best.onnx does not compute what the network does" in caplog.text


def test_settings_of_the_onnx_file(small, weights):
    (path,) = beside(weights, small, onnx_nms=True, onnx_half=True, max_det=40, opset=13)
    model = onnx.load(path)
    (output,) = model.graph.output
    assert output.name == "detections"
    assert output.type.tensor_type.shape.dim[1].dim_value == 40
    assert model.opset_import[0].version == 13
    assert "precision" in {entry.key for entry in model.metadata_props}


def test_settings_of_onnx_concern_onnx_alone():
    settings = TrainSettings(onnx_nms=True, onnx_half=True, onnx_simplify=True, max_det=9)
    asked = {"class_names": NAMES, "image_size": 96}
    onnx_options = options_of("onnx", settings, **asked)
    assert onnx_options.nms == NmsConfig(max_detections=9)
    assert onnx_options.half
    assert onnx_options.simplify
    other = options_of("torchscript", settings, **asked)
    assert (other.nms, other.half, other.simplify) == (None, False, False)
    assert other.size == (96, 96)
