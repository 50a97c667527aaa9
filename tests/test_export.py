"""The ONNX file: same numbers as the network, free sizes, metadata, refusals."""

from __future__ import annotations

import ast

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

import export
from models.checkpoint import checkpoint_of, save_checkpoint
from models.detector import Detector
from models.layout import parse_layout, read_layout
from utils.errors import Code, TaskError

NAMES = ("it's", "dog", "owl")


@pytest.fixture(scope="module")
def detector() -> Detector:
    torch.manual_seed(0)
    return Detector(read_layout("yolov5n", 3))


@pytest.fixture(scope="module")
def exported(detector, tmp_path_factory):
    path = tmp_path_factory.mktemp("onnx") / "best.onnx"
    export.export_onnx(detector, path, img_size=320, class_names=NAMES)
    return path


@pytest.mark.slow
def test_the_file_computes_the_same(exported, detector):
    assert export.verify_onnx(exported, detector) < 0.05
    assert detector.training


@pytest.mark.slow
@pytest.mark.parametrize(("batch", "height", "width"), [(1, 64, 64), (3, 96, 160)])
def test_batch_and_size_are_free(exported, detector, batch, height, width):
    session = onnxruntime.InferenceSession(str(exported), providers=["CPUExecutionProvider"])
    images = np.random.default_rng(1).random((batch, 3, height, width), dtype=np.float32)
    (rows,) = session.run(["output0"], {"images": images})
    assert rows.shape == (batch, 3 * 21 * height * width // 1024, 8)
    expected = detector.fused().predict(torch.from_numpy(images)).numpy()
    np.testing.assert_allclose(rows, expected, atol=0.05, rtol=1e-3)


@pytest.mark.slow
def test_metadata(exported):
    model = onnx.load(exported)
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    assert metadata["stride"] == "32"
    assert metadata["imgsz"] == "[320, 320]"
    assert ast.literal_eval(metadata["names"]) == dict(enumerate(NAMES))
    assert model.opset_import[0].version == 17
    assert [p.name for p in exported.parent.iterdir()] == ["best.onnx"]


@pytest.mark.slow
def test_another_network_is_noticed(exported, detector):
    other = detector.fused()
    other.head.m[0].bias.data.add_(0.1)
    with pytest.raises(TaskError, match="does not compute") as caught:
        export.verify_onnx(exported, other)
    assert caught.value.code is Code.MODEL


@pytest.mark.slow
def test_an_opset_beyond_the_tracing_exporter(tmp_path):
    if torch.__version__.startswith("2.4"):
        pytest.skip("the graph exporter of torch 2.4 is another one")
    # Half a minute for yolov5n, so a network of three layers stands in.
    definition = {
        **{"nc": 3, "depth_multiple": 1.0, "width_multiple": 1.0, "anchors": [[10, 13]]},
        "backbone": [[-1, 1, "Conv", [8, 6, 2, 2]], [-1, 1, "C3", [8]]],
        "head": [[[1], 1, "Detect", ["nc", "anchors"]]],
    }
    detector = Detector(parse_layout(definition))
    path = tmp_path / "new.onnx"
    export.export_onnx(detector, path, opset=export.LAST_TRACED_OPSET + 1, class_names=NAMES)
    assert export.verify_onnx(path, detector) < 0.05


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
    detector = Detector(parse_layout(definition))
    path = tmp_path / "block.onnx"
    export.export_onnx(detector, path, class_names=NAMES)
    assert export.verify_onnx(path, detector) < 0.05


def test_an_opset_nobody_has_is_refused(detector, tmp_path):
    with pytest.raises(TaskError, match="opset 1 "):
        export.export_onnx(detector, tmp_path / "a.onnx", opset=1, class_names=NAMES)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_command_line(detector, tmp_path, capfd):
    save_checkpoint(tmp_path / "best.pt", checkpoint_of(detector, NAMES))
    assert export.main(["--weights", str(tmp_path / "best.pt"), "--img-size", "320"]) == 0
    assert (tmp_path / "best.onnx").is_file()
    out, err = capfd.readouterr()
    assert "3 classes" in out
    assert len(out.splitlines()) == 1
    assert err == ""


def test_command_line_refusal(tmp_path, capsys):
    assert export.main(["--weights", str(tmp_path / "none.pt")]) == 1
    assert "does not exist" in capsys.readouterr().err
