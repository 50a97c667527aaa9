"""Every format agrees with the network, another network is noticed, and the command line tells."""

from __future__ import annotations

import dataclasses

import pytest
import torch

import export as exports
from exporting.export import FORMATS, export, verify
from exporting.options import FORMAT_NAMES, ExportOptions
from models.checkpoint import build_detector, checkpoint_of, load_checkpoint, save_checkpoint
from models.detector import Detector
from models.model_config import parse_model_config, read_model_config
from ops.nms import NmsConfig
from tests.exporting.conftest import NAMES, lively
from utils.errors import Code, TaskError

OPTIONS = ExportOptions(NAMES, size=(96, 128))
HALF = dataclasses.replace(OPTIONS, half=True)
SUPPRESSED = dataclasses.replace(OPTIONS, nms=NmsConfig(max_detections=20))


@pytest.fixture(scope="module")
def detector() -> Detector:
    torch.manual_seed(0)
    return lively(Detector(read_model_config("yolov5n", 3)))


@pytest.fixture(scope="module")
def other() -> Detector:
    torch.manual_seed(1)
    return lively(Detector(read_model_config("yolov5n", 3)), seed=1)


@pytest.fixture(scope="module")
def weights(detector, tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "best.pt"
    save_checkpoint(path, checkpoint_of(detector, NAMES))
    return path


def need(form: str) -> None:
    if form == "openvino":
        pytest.importorskip("openvino", reason="the optional package openvino is not installed")


def test_every_format_has_its_name():
    assert tuple(FORMATS) == FORMAT_NAMES


@pytest.mark.slow
@pytest.mark.parametrize("options", [OPTIONS, HALF], ids=["float32", "float16"])
@pytest.mark.parametrize("form", FORMAT_NAMES)
def test_a_file_agrees_with_its_network_and_with_no_other(form, options, detector, other, tmp_path):
    need(form)
    path = tmp_path / f"best{FORMATS[form].ending}"
    before = {key: value.clone() for key, value in detector.state_dict().items()}
    done = export(detector, form, path=path, options=options)
    assert done.files[0] == path
    assert sorted(done.files) == sorted(tmp_path.iterdir())
    assert done.difference < (1.0 if options.half else 0.02)
    assert detector.training
    assert all(torch.equal(value, before[key]) for key, value in detector.state_dict().items())
    assert verify(detector, form, path=path, options=options) == done.difference
    with pytest.raises(TaskError, match=f"{form} file .*best.* does not compute") as caught:
        verify(other, form, path=path, options=options)
    assert caught.value.code is Code.MODEL


@pytest.mark.slow
def test_half_is_smaller_in_every_format(detector, tmp_path):
    for form in ("onnx", "torchscript", "safetensors", "state-dict"):
        sizes = [
            export(detector, form, path=tmp_path / "file", options=options).files[0].stat().st_size
            for options in (OPTIONS, HALF)
        ]
        assert sizes[1] < 0.6 * sizes[0], form


@pytest.mark.slow
def test_a_file_that_disagrees_is_not_kept(detector, other, tmp_path, monkeypatch):
    path = tmp_path / "best.onnx"
    path.write_bytes(b"the older file")
    real = FORMATS["onnx"]
    wrong = dataclasses.replace(
        real, write=lambda _, path, options: real.write(other, path, options)
    )
    monkeypatch.setitem(FORMATS, "onnx", wrong)
    with pytest.raises(TaskError, match=r"onnx file .*/best\.onnx does not compute .*128x128"):
        export(detector, "onnx", path=path, options=OPTIONS)
    assert path.read_bytes() == b"the older file"
    assert list(tmp_path.iterdir()) == [path]


def test_what_cannot_be_run_is_told_in_a_sentence(detector, tmp_path):
    (tmp_path / "best.onnx").write_bytes(b"no graph")
    with pytest.raises(TaskError, match=r"onnx file .*best\.onnx cannot be run") as caught:
        verify(detector, "onnx", path=tmp_path / "best.onnx", options=OPTIONS)
    assert "\n" not in caught.value.sentence


@pytest.mark.slow
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
    done = export(detector, "onnx", path=tmp_path / "block.onnx", options=OPTIONS)
    assert done.difference < 0.05


def test_an_opset_nobody_has_is_refused(detector, tmp_path):
    options = dataclasses.replace(OPTIONS, opset=1)
    with pytest.raises(TaskError, match=r"onnx opset 1 .*try opset 17"):
        export(detector, "onnx", path=tmp_path / "a.onnx", options=options)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_command_line(weights, capfd):
    arguments = ["--weights", str(weights), "--img-size", "320", "--include"]
    assert exports.main([*arguments, "onnx", "state_dict", "safetensors"]) == 0
    assert load_checkpoint(weights.with_suffix(".safetensors")).class_names == NAMES
    out, err = capfd.readouterr()
    names = [line.partition(":")[0].rpartition("/")[2] for line in out.splitlines()]
    assert names == ["best.onnx", "best.state_dict", "best.safetensors"]
    assert all("3 classes, largest difference" in line for line in out.splitlines())
    assert err == ""


@pytest.mark.slow
def test_a_format_that_fails_does_not_stop_the_others(weights, tmp_path, capsys, monkeypatch):
    def refuse(*_):
        raise TaskError(Code.CONFIG, "openvino is missing.")

    broken = dataclasses.replace(FORMATS["openvino"], write=refuse)
    monkeypatch.setitem(FORMATS, "openvino", broken)
    copy = tmp_path / "best.pt"
    copy.write_bytes(weights.read_bytes())
    assert exports.main(["--weights", str(copy), "--include", "openvino", "safetensors"]) == 1
    assert capsys.readouterr().err == "openvino is missing.\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["best.pt", "best.safetensors"]


@pytest.mark.parametrize(
    ("name", "arguments", "words"),
    [
        pytest.param("none.pt", [], "does not exist", id="no weights"),
        pytest.param("best.pt", ["--include", "engine"], "trtexec", id="a format not written"),
        pytest.param(
            "best.safetensors", ["--include", "safetensors"], "weight file itself", id="onto itself"
        ),
    ],
)
def test_command_line_refusals(name, arguments, words, small_weights, capsys):
    path = small_weights.with_name(name)
    assert exports.main(["--weights", str(path), *arguments]) == 1
    out, err = capsys.readouterr()
    assert words in err
    assert len(err.splitlines()) == 1
    assert out == ""


@pytest.fixture
def small_weights(weights, tmp_path):
    """Weights in both of our own formats."""
    path = tmp_path / "best.pt"
    path.write_bytes(weights.read_bytes())
    detector = build_detector(load_checkpoint(path))
    export(detector, "safetensors", path=tmp_path / "best.safetensors", options=OPTIONS)
    return path
