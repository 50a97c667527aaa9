"""v7.0's export flags: each does its job or is refused with the reason."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from cli.export import parse_export_command
from exporting.options import ExportOptions
from ops.nms import NmsConfig
from utils.errors import Code, TaskError


def read(*arguments: str):
    return parse_export_command(["--weights", "best.pt", *arguments])


def test_what_nothing_means():
    request = read()
    assert request.weights == (Path("best.pt"),)
    assert request.formats == ("onnx",)
    assert request.output is None
    options = request.options_for(("a", "b"), 32)
    assert options == ExportOptions(class_names=("a", "b"))


@pytest.mark.parametrize(
    ("arguments", "name", "value"),
    [
        pytest.param("--imgsz 320", "size", (320, 320), id="one side"),
        pytest.param("--img-size 320 256", "size", (320, 256), id="height and width"),
        pytest.param("--img 300", "size", (320, 320), id="rounded up to the stride"),
        pytest.param("--batch-size 4", "batch_size", 4, id="a batch"),
        pytest.param("--batch-size 4", "dynamic", False, id="a batch has a fixed shape"),
        pytest.param("--batch-size 4 --dynamic", "dynamic", True, id="unless told otherwise"),
        pytest.param("--half", "half", True, id="half"),
        pytest.param("--opset 12", "opset", 12, id="opset"),
        pytest.param("--gpu-id=", "device", torch.device("cpu"), id="no GPU"),
        pytest.param("--nms", "nms", NmsConfig(), id="nms"),
        pytest.param(
            "--nms --conf-thres 0.1 --iou-thres 0.6 --topk-all 50 --agnostic-nms",
            "nms",
            NmsConfig(0.1, 0.6, 50, class_agnostic=True),
            id="nms in detail",
        ),
        pytest.param("--nms --conf-thres 0", "nms", NmsConfig(0.0), id="zero counts"),
    ],
)
def test_flags_do_their_job(arguments, name, value):
    assert getattr(read(*arguments.split()).options_for(("a",), 32), name) == value


def test_formats_and_weights_in_any_number():
    words = ["--include", "ONNX", "state_dict", "onnx", "torchscript", "--weights", "a.pt", "b.pt"]
    request = parse_export_command(words)
    assert request.formats == ("onnx", "state-dict", "torchscript")
    assert request.weights == (Path("a.pt"), Path("b.pt"))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        pytest.param("--int8", "--int8 is refused: whole numbers are set", id="int8"),
        pytest.param("--workspace 8", "trtexec", id="with its value"),
        pytest.param("--topk-per-class 100", "--topk-all", id="per class"),
        pytest.param("--include onnx engine", "trtexec", id="a format not written"),
        pytest.param("--include tflite", "onnx2tf", id="TensorFlow"),
        pytest.param("--include onnxx", "not known", id="mistyped"),
        pytest.param("--conf-thres 0.3", "add --nms", id="a threshold of nothing"),
        pytest.param("--agnostic-nms", "add --nms", id="agnostic without suppression"),
        pytest.param("--nms --iou-thres 45", "must be a number, 0 to 1", id="percent"),
        pytest.param("--nms --topk-all 0", "whole number, 1 to", id="none kept"),
        pytest.param("--imgsz 0", "whole number, 1 to 8192", id="no size"),
        pytest.param("--imgsz 1 2 3", "one side, or height and width", id="three sides"),
        pytest.param("--batch-size x", "whole number, 1 to 4096", id="no batch"),
        pytest.param("--opset 10", "whole number, 11 to 27", id="an old operator set"),
        pytest.param("--device tpu", "neither cpu nor numbers", id="another device"),
        pytest.param("--half --simplify", "choose one", id="half and simplify"),
        pytest.param("--nms --include safetensors", "into ONNX files only", id="nms elsewhere"),
        pytest.param("--output a --include onnx torchscript", "names one file", id="one output"),
    ],
)
def test_refusals(arguments, words):
    with pytest.raises(TaskError) as caught:
        read(*arguments.split())
    assert caught.value.code is Code.CONFIG
    assert words in caught.value.sentence
    assert "\n" not in caught.value.sentence


def test_a_gpu_that_is_not_there(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(TaskError, match="no GPU is visible"):
        read("--device", "0")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("names: [x, y]", ("x", "y"), id="a list"),
        pytest.param("names: {0: x, 1: 7}", ("x", "7"), id="a mapping"),
        pytest.param("names: {1: x, 2: y}", None, id="not from 0"),
        pytest.param("names: [x]", None, id="too few"),
    ],
)
def test_names_of_a_data_file(tmp_path, text, expected):
    (tmp_path / "data.yaml").write_text(text, "utf-8")
    request = read("--data", str(tmp_path / "data.yaml"))
    if expected is None:
        with pytest.raises(TaskError, match=r"data\.yaml"):
            request.options_for(("a", "b"), 32)
    else:
        assert request.options_for(("a", "b"), 32).class_names == expected
