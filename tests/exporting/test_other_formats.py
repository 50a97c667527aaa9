"""TorchScript, OpenVINO, safetensors and state dicts: what other programs find in the files."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
import torch
from safetensors import safe_open

from exporting import format_openvino, format_safetensors, format_state_dict, format_torchscript
from exporting.verify import ParityError
from models.checkpoint import build_detector, load_checkpoint
from models.detector import Detector
from models.model_config import read_model_config
from tests.conftest import needs_real_gpu
from tests.exporting.conftest import NAMES


@pytest.fixture
def torchscript(small, plain, tmp_path):
    path = tmp_path / "best.torchscript"
    format_torchscript.write(small, path, plain)
    return path


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=needs_real_gpu)])
@pytest.mark.parametrize("shape", [(1, 3, 8, 8), (3, 3, 20, 14)])
def test_torchscript_takes_any_batch_size_and_device(torchscript, small, shape, device):
    program = torch.jit.load(str(torchscript), map_location=device)
    images = torch.rand(*shape)
    rows = program(images.to(device)).cpu()
    torch.testing.assert_close(rows, small.fused().predict(images), atol=1e-3, rtol=1e-3)
    # A file that was traced on one device would else fail on every other.
    graph = str(program.inlined_graph)
    assert 'value="cpu"' not in graph
    assert "aten::silu" in graph


def test_torchscript_has_the_notes_of_v7(torchscript):
    notes = {format_torchscript.CONFIG: ""}
    torch.jit.load(str(torchscript), _extra_files=notes)
    content = json.loads(notes[format_torchscript.CONFIG])
    assert content == {
        **{"shape": [1, 3, 128, 128], "stride": 2},
        "names": {str(index): name for index, name in enumerate(NAMES)},
    }


def test_torchscript_in_half(small, plain, tmp_path):
    path = tmp_path / "half.torchscript"
    format_torchscript.write(small, path, dataclasses.replace(plain, half=True))
    program = torch.jit.load(str(path))
    assert {p.dtype for p in program.parameters()} == {torch.float16}
    assert program(torch.rand(1, 3, 8, 8)).dtype == torch.float32


@pytest.fixture
def openvino():
    return pytest.importorskip("openvino", reason="the optional package is not installed")


@pytest.mark.parametrize("half", [False, True])
def test_openvino_model_weights_and_metadata(openvino, small, plain, tmp_path, half, monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("the converter that reports its use over the network was called")

    monkeypatch.setattr(openvino, "convert_model", refuse)
    options, path = dataclasses.replace(plain, half=half), tmp_path / "best.xml"
    format_openvino.write(small, path, options)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["best.bin", "best.xml"]
    images = np.random.default_rng(0).random((2, 3, 8, 12), dtype=np.float32)
    rows = format_openvino.run(path, small, options)(images)
    expected = small.fused().predict(torch.from_numpy(images)).numpy()
    np.testing.assert_allclose(rows, expected, atol=0.1 if half else 1e-3)
    notes = openvino.Core().read_model(str(path)).get_rt_info(["model_info"])
    assert str(notes["stride"]) == "2"
    assert "owl" in str(notes["names"])


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("model", ["yolov5n", "yolov5n6"])
def test_the_state_dict_is_the_official_one(golden, plain, tmp_path, model, half):
    keys = json.loads(golden("state_dict_keys.json").read_text("utf-8"))[model]
    detector, path = Detector(read_model_config(model, 80)), tmp_path / "a.state_dict"
    format_state_dict.write(detector, path, dataclasses.replace(plain, half=half))
    state = torch.load(path, weights_only=True)
    assert type(state) is dict
    assert {key: list(value.shape) for key, value in state.items()} == keys
    for key, value in state.items():
        if key.endswith("num_batches_tracked"):
            assert value.dtype == torch.int64, key
        elif key.endswith(".anchors"):
            assert torch.equal(value, detector.anchors), "anchors are in grid cells"
        else:
            assert value.dtype == (torch.float16 if half else torch.float32), key


@pytest.mark.parametrize("half", [False, True])
def test_safetensors_are_a_checkpoint(detector, plain, tmp_path, half):
    path = tmp_path / "best.safetensors"
    format_safetensors.write(detector, path, dataclasses.replace(plain, half=half, size=(96, 128)))
    checkpoint = load_checkpoint(path)
    assert checkpoint.class_names == NAMES
    assert checkpoint.metadata.img_size == 128
    twin = build_detector(checkpoint).state_dict()
    for key, value in detector.state_dict().items():
        halved = half and value.is_floating_point() and not key.endswith(".anchors")
        assert torch.equal(twin[key], value.half().float() if halved else value), key
    with safe_open(str(path), framework="pt") as file:
        assert set(file.keys()) == set(detector.state_dict())
        assert file.metadata()["format"] == "pt"


def test_weights_of_another_network_are_noticed(small, detector, plain, tmp_path):
    format_state_dict.write(detector, tmp_path / "a.state_dict", plain)
    with pytest.raises(ParityError, match="keys or shapes"):
        format_state_dict.run(tmp_path / "a.state_dict", small, plain)
    format_safetensors.write(small, tmp_path / "b.safetensors", plain)
    renamed = dataclasses.replace(plain, class_names=("a", "b", "c"))
    with pytest.raises(ParityError, match="names"):
        format_safetensors.run(tmp_path / "b.safetensors", small, renamed)
