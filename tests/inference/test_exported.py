"""Exported files in the predictor: the detections of the weights, or what they are instead."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper

import detect
import export
from inference.predictor import Predictor, load_predictor
from settings.detect import InferSettings
from tests.mixed_example import write_mixed
from tools.sources import SourceDataset
from utils.errors import Code, TaskError

CPU = torch.device("cpu")
SETTINGS = InferSettings(img_size=96, conf_thres=0.001, batch_size=4, precision="float32")


@pytest.fixture(scope="module")
def folder(weights: Path, drawn: SourceDataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures in `images`, and files exported from `best.pt` beside it."""
    folder = tmp_path_factory.mktemp("exported")
    (folder / "images").mkdir()
    write_mixed(drawn, folder / "images")
    best = folder / "best.pt"
    shutil.copy(weights, best)
    flags = ["--weights", str(best), "--imgsz"]
    for name, more in (
        ("any", ["96", "--dynamic"]),
        ("square", ["96"]),
        ("wide", ["64", "96", "--batch-size", "3"]),
        ("nms", ["96", "--nms"]),
    ):
        assert export.main([*flags, *more, "--output", str(folder / f"{name}.onnx")]) == 0
    return folder


def predictor_of(path: Path, **settings: object) -> Predictor:
    return load_predictor(path, InferSettings(**{**vars(SETTINGS), **settings}), CPU)


def strongest(path: Path, images: Path, **settings: object) -> list[np.ndarray]:
    """The first detection of each picture: below it rounding may decide what is suppressed."""
    names = sorted(map(str, images.iterdir()))
    found = sorted(predictor_of(path, **settings).stream(names), key=lambda one: one.position)
    return [one.detections[:1] for one in found]


def assert_same(found: list[np.ndarray], expected: list[np.ndarray]) -> None:
    assert [len(one) for one in expected].count(1) == 6
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, atol=0.01)


@pytest.mark.parametrize("engine", ["torch", "openvino"])
def test_a_file_of_any_size_detects_what_its_weights_do(folder: Path, engine: str) -> None:
    if engine == "openvino":
        pytest.importorskip("openvino", reason="the optional package is not installed")
    expected = strongest(folder / "best.pt", folder / "images")
    assert_same(strongest(folder / "any.onnx", folder / "images", engine=engine), expected)


@pytest.mark.parametrize(("name", "size"), [("square", (96, 96)), ("wide", (64, 96))])
def test_a_fixed_file_gets_its_size(
    folder: Path, name: str, size: tuple[int, int], caplog: pytest.LogCaptureFixture
) -> None:
    """Images are letterboxed to it, in batches that it takes, and img_size is told to be moot."""
    fixed = predictor_of(folder / f"{name}.onnx", img_size=640)
    assert "96 (height x width): img_size 640 has no effect" in caplog.text
    plan = fixed.plan((160, 120))
    assert plan.shape == size
    images = torch.randint(0, 256, (4, 3, *size), dtype=torch.uint8)
    _, rows = fixed.network(images)
    _, expected = predictor_of(folder / "best.pt").network(images)
    torch.testing.assert_close(rows, expected, atol=0.01, rtol=1e-3)
    names = sorted(map(str, (folder / "images").iterdir()))
    sizes = {Path(one.path).name: one.size for one in fixed.stream(names)}
    assert sizes["0.png"] == (120, 160)
    assert len(sizes) == 7


def test_openvino_files_and_folders(folder: Path, weights: Path, tmp_path: Path) -> None:
    """Also v7.0's folder, which notes names and stride in a YAML file."""
    pytest.importorskip("openvino", reason="the optional package is not installed")
    path = tmp_path / "best.xml"
    arguments = ["--weights", str(weights), "--imgsz", "96", "--include", "openvino", "--dynamic"]
    assert export.main([*arguments, "--output", str(path)]) == 0
    expected = strongest(folder / "best.pt", folder / "images")
    assert_same(strongest(path, folder / "images"), expected)
    names = predictor_of(path).class_names
    assert names == predictor_of(folder / "best.pt").class_names
    path.write_text(path.read_text("utf-8").replace("model_info", "other_info"), "utf-8")
    (tmp_path / "best.yaml").write_text(f"stride: 32\nnames: {dict(enumerate(names))}\n", "utf-8")
    assert_same(strongest(tmp_path, folder / "images"), expected)
    assert predictor_of(tmp_path).class_names == names


def test_half_inputs_of_v7(folder: Path, tmp_path: Path) -> None:
    """Files that take float16, as the official code writes with --half."""
    model = onnx.load(folder / "any.onnx")
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.FLOAT16
    for node in model.graph.node:
        node.input[:] = ["wide" if name == "images" else name for name in node.input]
    cast = helper.make_node("Cast", ["images"], ["wide"], to=TensorProto.FLOAT)
    model.graph.node.insert(0, cast)
    onnx.save(model, tmp_path / "half.onnx")
    images = torch.randint(0, 256, (1, 3, 96, 96), dtype=torch.uint8)
    _, rows = predictor_of(tmp_path / "half.onnx").network(images)
    _, expected = predictor_of(folder / "any.onnx").network(images)
    torch.testing.assert_close(rows, expected, atol=0.5, rtol=0.02)


def test_the_command_writes_what_the_file_detects(folder: Path, tmp_path: Path) -> None:
    """One object an image, so that rounding cannot decide what is suppressed."""
    usual = ["--img", "96", "--precision", "float32", "--conf-thres", "0.001", "--max-det", "1"]
    found = []
    for name in ("best.pt", "any.onnx"):
        output = tmp_path / f"{name}.json"
        weights = ["--weights", str(folder / name), "--output", str(output)]
        detect.main([*weights, "--source", str(folder / "images"), *usual])
        found.append(
            [one["box"] for boxes in json.loads(output.read_text()).values() for one in boxes]
        )
    assert len(found[0]) == 6
    np.testing.assert_allclose(*found, atol=0.02)


@pytest.mark.parametrize(("name", "ranks"), [("best.pt", True), ("any.onnx", False)])
def test_mining_is_named_next_where_the_file_can(
    folder: Path, tmp_path: Path, name: str, ranks: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--weights", str(folder / name), "--source", str(folder / "images"), "--img", "96"]
    detect.main([*words, "--project", str(tmp_path), "--noplots"])
    said = "".join(capsys.readouterr())
    assert ("next, which to label first: python mine.py" in said) is ranks


def foreign(path: Path, shape: list[int], metadata: dict[str, str]) -> Path:
    """A file whose output is a constant of that shape."""
    value = helper.make_tensor("value", TensorProto.FLOAT, shape, np.zeros(shape).ravel())
    given = helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, 64, 64])
    output = helper.make_tensor_value_info("output0", TensorProto.FLOAT, shape)
    node = helper.make_node("Constant", [], ["output0"], value=value)
    opset = [helper.make_opsetid("", 17)]
    graph = helper.make_graph([node], "graph", [given], [output])
    model = helper.make_model(graph, opset_imports=opset, ir_version=8)
    helper.set_model_props(model, metadata)
    onnx.save(model, path)
    return path


@pytest.mark.parametrize(
    ("shape", "names", "words"),
    [
        ([1, 6, 84], "{0: 'a', 1: 'b'}", r"gives \[1, 6, 84\] for 2 classes, no rows of a YOLOv5"),
        ([1, 252, 39], "{0: 'a', 1: 'b'}", r"gives \[1, 252, 39\] for 2 classes"),
        ([1, 1000], "{0: 'a'}", r"gives \[1, 1000\] for 1 classes"),
        ([1, 252, 7], "__import__('os')", ""),
    ],
    ids=["YOLOv8", "segmentation", "classification", "no names"],
)
def test_files_of_other_networks(
    tmp_path: Path,
    shape: list[int],
    names: str,
    words: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    path = foreign(tmp_path / "other.onnx", shape, {"names": names, "stride": "32"})
    if not words:
        assert predictor_of(path).class_names == ("class0", "class1")
        assert "names no classes" in caplog.text
        return
    with pytest.raises(TaskError, match=words) as caught:
        predictor_of(path)
    assert caught.value.code is Code.MODEL


def test_what_a_file_cannot_do(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(TaskError, match=r"nms\.onnx ends in NMS.* give the \.pt file"):
        predictor_of(folder / "nms.onnx")
    with pytest.raises(
        TaskError, match=r"engine tensorrt does not run .*set engine to onnxruntime"
    ):
        predictor_of(folder / "any.onnx", engine="tensorrt")
    with pytest.raises(TaskError, match=r"Test-time augmentation needs .* give the \.pt file"):
        strongest(folder / "any.onnx", folder / "images", augment=True)
    (tmp_path / "text.onnx").write_text("no graph")
    with pytest.raises(TaskError, match=r"text\.onnx cannot be opened by onnxruntime"):
        predictor_of(tmp_path / "text.onnx")
    with pytest.raises(TaskError, match="holds 0 OpenVINO models"):
        predictor_of(folder / "images")
    with pytest.raises(TaskError, match=r"gone\.onnx does not exist"):
        predictor_of(tmp_path / "gone.onnx")
