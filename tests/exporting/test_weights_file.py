"""Bare weights: v7.0's keys, shapes and number types, and what does not belong is noticed."""

from __future__ import annotations

import dataclasses
import json

import pytest
import torch
from safetensors import safe_open

from exporting.verify import Disagreement
from exporting.weights_file import (
    run_state_dict,
    run_weights,
    write_state_dict,
    write_weights,
)
from models.checkpoint import build_detector, load_checkpoint
from models.detector import Detector
from models.model_config import read_model_config
from tests.exporting.conftest import NAMES


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("model", ["yolov5n", "yolov5s", "yolov5n6"])
def test_the_state_dict_is_the_official_one(golden, plain, tmp_path, model, half):
    keys = json.loads(golden("state_dict_keys.json").read_text("utf-8"))[model]
    detector = Detector(read_model_config(model, 80))
    options = dataclasses.replace(plain, half=half)
    write_state_dict(detector, tmp_path / "a.state_dict", options)
    state = torch.load(tmp_path / "a.state_dict", weights_only=True)
    assert type(state) is dict
    assert {key: list(value.shape) for key, value in state.items()} == keys
    for key, value in state.items():
        if key.endswith("num_batches_tracked"):
            assert value.dtype == torch.int64, key
        elif key.endswith(".anchors"):
            assert torch.equal(value, detector.anchors), "anchors are in grid cells"
        else:
            assert value.dtype == (torch.float16 if half else torch.float32), key


def test_the_official_loading_gesture(detector, plain, tmp_path):
    """`model.load_state_dict(torch.load(path))`, strict, as people type it."""
    write_state_dict(detector, tmp_path / "a.state_dict", plain)
    twin = Detector(detector.config)
    twin.load_state_dict(torch.load(tmp_path / "a.state_dict"))
    assert all(torch.equal(twin.state_dict()[k], v) for k, v in detector.state_dict().items())


@pytest.mark.parametrize("half", [False, True])
def test_safetensors_are_a_checkpoint(detector, plain, tmp_path, half):
    path = tmp_path / "best.safetensors"
    write_weights(detector, path, dataclasses.replace(plain, half=half, size=(96, 128)))
    checkpoint = load_checkpoint(path)
    assert checkpoint.class_names == NAMES
    assert checkpoint.metadata.img_size == 128
    twin = build_detector(checkpoint)
    for key, value in detector.state_dict().items():
        rounded = value.half().float() if half and not key.endswith(".anchors") else value
        if not value.is_floating_point():
            rounded = value
        assert torch.equal(twin.state_dict()[key], rounded), key


def test_other_programs_find_the_tensors(detector, plain, tmp_path):
    path = tmp_path / "best.safetensors"
    write_weights(detector, path, plain)
    with safe_open(str(path), framework="pt") as file:
        assert set(file.keys()) == set(detector.state_dict())
        assert file.metadata()["format"] == "pt"


@pytest.mark.parametrize("write", [write_state_dict, write_weights])
def test_the_file_does_not_follow_the_network(small, plain, tmp_path, write):
    path = tmp_path / "file"
    write(small, path, plain)
    before = path.read_bytes()
    torch.nn.init.zeros_(small.model[0].conv.weight)
    assert path.read_bytes() == before


def test_what_does_not_belong_is_noticed(small, detector, plain, tmp_path):
    write_state_dict(detector, tmp_path / "a.state_dict", plain)
    with pytest.raises(Disagreement, match="keys or shapes"):
        run_state_dict(tmp_path / "a.state_dict", small, plain)
    write_weights(small, tmp_path / "b.safetensors", plain)
    with pytest.raises(Disagreement, match="names"):
        run_weights(
            tmp_path / "b.safetensors", dataclasses.replace(plain, class_names=("a", "b", "c"))
        )
