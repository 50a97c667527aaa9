"""Exports: every format agrees with its network and no other, and what is refused or fails."""

from __future__ import annotations

import dataclasses
import logging
import sys

import onnx
import pytest
import torch

from exporting.export import FORMATS, export, export_after_training, verify
from exporting.options import NOT_WRITTEN, ExportOptions, check_options
from models.detector import Detector
from models.model_config import parse_model_config
from ops.nms import NmsConfig
from settings.train import EXPORT_FORMATS, TrainSettings
from tests.exporting.conftest import NAMES
from utils.errors import Code, TaskError

OPTIONS = ExportOptions(NAMES, size=(96, 128))
HALF = dataclasses.replace(OPTIONS, half=True)


def need(form: str) -> None:
    if form == "openvino":
        pytest.importorskip("openvino", reason="the optional package is not installed")


def test_every_format_of_v7_is_found_by_its_file_or_explained():
    assert tuple(FORMATS) == EXPORT_FORMATS
    assert set(EXPORT_FORMATS) == {"onnx", "openvino", "safetensors", "state-dict", "torchscript"}
    v7 = "torchscript onnx openvino engine coreml saved_model pb tflite edgetpu tfjs paddle"
    assert {*NOT_WRITTEN, *EXPORT_FORMATS} >= set(v7.split())


@pytest.mark.parametrize("options", [OPTIONS, HALF], ids=["float32", "float16"])
@pytest.mark.parametrize("form", EXPORT_FORMATS)
def test_a_file_agrees_with_its_network_and_with_no_other(form, options, detector, other, tmp_path):
    need(form)
    path = tmp_path / f"best{FORMATS[form].suffix}"
    before = {key: value.clone() for key, value in detector.state_dict().items()}
    done = export(detector, form, path=path, options=options)
    assert done.files[0] == path
    assert sorted(done.files) == sorted(tmp_path.iterdir())
    (tmp_path / "plain").touch()
    usual = (tmp_path / "plain").stat().st_mode
    assert {file.stat().st_mode for file in done.files} == {usual}
    assert done.difference < (1.0 if options.half else 0.02)
    numbers = sum(p.numel() for p in detector.parameters())
    assert (max(file.stat().st_size for file in done.files) < 3.2 * numbers) is options.half
    assert detector.training
    assert all(torch.equal(value, before[key]) for key, value in detector.state_dict().items())
    assert verify(detector, form, path=path, options=options) == done.difference
    with pytest.raises(TaskError, match=f"{form} file .*best.* does not compute") as caught:
        verify(other, form, path=path, options=options)
    assert caught.value.code is Code.MODEL


def test_a_file_that_disagrees_is_not_kept(detector, other, tmp_path, monkeypatch):
    path = tmp_path / "best.onnx"
    path.write_bytes(b"the older file")
    write = FORMATS["onnx"].write
    wrong = dataclasses.replace(FORMATS["onnx"], write=lambda _, *given: write(other, *given))
    monkeypatch.setitem(FORMATS, "onnx", wrong)
    with pytest.raises(TaskError, match=r"onnx file .*/best\.onnx does not compute .*96x128"):
        export(detector, "onnx", path=path, options=OPTIONS)
    assert path.read_bytes() == b"the older file"
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_that_cannot_be_run_is_one_sentence(detector, tmp_path):
    (tmp_path / "best.onnx").write_bytes(b"no graph")
    with pytest.raises(TaskError, match=r"onnx file .*best\.onnx cannot be run") as caught:
        verify(detector, "onnx", path=tmp_path / "best.onnx", options=OPTIONS)
    assert "\n" not in caught.value.sentence


def test_an_unknown_opset_is_refused(detector, tmp_path):
    options = dataclasses.replace(OPTIONS, opset=1)
    with pytest.raises(TaskError, match=r"onnx opset 1 .*try opset 17"):
        export(detector, "onnx", path=tmp_path / "a.onnx", options=options)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("block", "activation"),
    [
        *((["Conv", [16, 3]], f"nn.{name}()") for name in ("Hardswish", "Mish", "GELU", "ReLU6")),
        (["Conv", [16, 3]], "nn.LeakyReLU(0.1)"),
        *(([name, [16]], "nn.SiLU()") for name in ("C3TR", "C3Ghost", "C3x", "BottleneckCSP")),
        *(([name, [16]], "nn.SiLU()") for name in ("SPP", "C3SPP", "DWConvTranspose2d")),
        *(([name, [16, 3]], "nn.SiLU()") for name in ("Focus", "CrossConv", "GhostConv")),
        *(([name, [2]], "nn.SiLU()") for name in ("Contract", "Expand")),
        (["MixConv2d", [16, [1, 3]]], "nn.SiLU()"),
        (["nn.MaxPool2d", [2, 2, 0]], "nn.SiLU()"),
    ],
    ids=str,
)
def test_every_kind_of_block_can_be_exported(block, activation, tmp_path):
    definition = {
        **{"nc": 3, "depth_multiple": 1.0, "width_multiple": 1.0, "anchors": [[10, 13]]},
        "activation": activation,
        "backbone": [[-1, 1, "Conv", [16, 6, 4, 2]], [-1, 1, *block]],
        "head": [[[1], 1, "Detect", ["nc", "anchors"]]],
    }
    detector = Detector(parse_model_config(definition))
    for form in ("onnx", "torchscript"):
        done = export(detector, form, path=tmp_path / "block", options=OPTIONS)
        assert done.difference < 0.05


@pytest.mark.parametrize(
    ("form", "change", "words"),
    [
        *(pytest.param(form, {}, f"{form} is not written here: ", id=form) for form in NOT_WRITTEN),
        pytest.param("onxx", {}, "not known; choose among onnx, openvino", id="mistyped"),
        pytest.param("torchscript", {"nms": NmsConfig()}, "into ONNX files only", id="nms"),
        pytest.param("onnx", {"simplify": True, "half": True}, "choose one", id="both"),
    ],
)
def test_options_that_are_refused(form, change, words):
    with pytest.raises(TaskError, match=words) as caught:
        check_options(form, dataclasses.replace(OPTIONS, **change))
    assert caught.value.code is Code.CONFIG


@pytest.fixture
def weights(tmp_path):
    path = tmp_path / "best.pt"
    path.write_bytes(b"weights")
    return path


def after_training(weights, detector, **settings):
    return export_after_training(
        weights, detector, settings=TrainSettings(**settings), class_names=NAMES, image_size=96
    )


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
        pytest.param(
            {"onnx": False, "model_formats": ("openvino",)}, ["best.xml", "best.bin"], id="openvino"
        ),
    ],
)
def test_files_after_training(small, weights, settings, names):
    if "best.xml" in names:
        need("openvino")
    files = after_training(weights, small, **settings)
    assert [path.name for path in files] == names
    assert {path.name for path in weights.parent.iterdir()} == {"best.pt", *names}


def test_a_missing_package_is_a_warning_after_training(small, weights, caplog, monkeypatch):
    monkeypatch.setitem(sys.modules, "openvino", None)
    files = after_training(weights, small, model_formats=("openvino", "state-dict"))
    assert [path.name for path in files] == ["best.onnx", "best.state_dict"]
    (warning,) = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert "best.xml was not written, the weights are kept: " in warning
    assert "needs the package openvino" in warning
    assert weights.read_bytes() == b"weights"


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), MemoryError()])
def test_a_failed_export_does_not_end_the_training(small, weights, caplog, monkeypatch, error):
    def fail(*_):
        raise error

    monkeypatch.setitem(FORMATS, "onnx", dataclasses.replace(FORMATS["onnx"], write=fail))
    assert after_training(weights, small) == []
    assert "best.onnx was not written" in caplog.text
    assert [path.name for path in weights.parent.iterdir()] == ["best.pt"]


def test_settings_of_the_onnx_file_after_training(small, weights):
    settings = {"onnx_nms": True, "onnx_half": True, "max_det": 40, "opset": 13}
    (path,) = after_training(weights, small, **settings)
    model = onnx.load(path)
    (output,) = model.graph.output
    assert output.name == "detections"
    assert output.type.tensor_type.shape.dim[1].dim_value == 40
    assert model.opset_import[0].version == 13
    assert "precision" in {entry.key for entry in model.metadata_props}
    given = {**settings, "onnx": False, "model_formats": ("torchscript",)}
    (path,) = after_training(weights, small, **given)  # with NMS it would be refused
    assert {p.dtype for p in torch.jit.load(str(path)).parameters()} == {torch.float32}
