"""Safetensors as a checkpoint: round trip, and files that are something else or broken."""

from __future__ import annotations

import json
import sys

import pytest
import torch
from safetensors.torch import save_file

from models.checkpoint import load_checkpoint
from models.safetensors_file import ENTRY, is_safetensors, read_safetensors, write_safetensors
from utils.errors import Code, TaskError

CONTENT = {
    "format": "ymir-yolov5",
    "version": 1,
    "layout": {"nc": 1, "depth_multiple": 0.33},
    "class_names": ["Zebra, größer"],
    "state": {"a.weight": torch.arange(4.0).view(2, 2), "count": torch.tensor(3)},
    "metadata": {"epoch": 3, "note": None},
}


def test_round_trip(tmp_path):
    path = tmp_path / "best.safetensors"
    write_safetensors(path, CONTENT)
    assert is_safetensors(path)
    read = read_safetensors(path)
    assert {key: read[key] for key in CONTENT if key != "state"} == {
        key: value for key, value in CONTENT.items() if key != "state"
    }
    assert all(torch.equal(read["state"][key], value) for key, value in CONTENT["state"].items())
    assert read["state"]["count"].dtype == torch.int64


def test_tensors_may_share_memory_and_lie_in_any_order(tmp_path):
    whole = torch.rand(2, 4, 3, 3).to(memory_format=torch.channels_last)
    write_safetensors(tmp_path / "a", {"state": {"one": whole, "part": whole[:, 1:3]}})
    state = read_safetensors(tmp_path / "a")["state"]
    assert torch.equal(state["one"], whole)
    assert torch.equal(state["part"], whole[:, 1:3])


def test_the_name_of_the_file_does_not_matter(tiny, tmp_path):
    torch.save({"a": 1}, tmp_path / "best.safetensors")
    assert not is_safetensors(tmp_path / "best.safetensors")
    assert not is_safetensors(tmp_path / "none.safetensors")


def cut(path):
    write_safetensors(path, CONTENT)
    path.write_bytes(path.read_bytes()[:-4])


@pytest.mark.parametrize(
    ("make", "words"),
    [
        pytest.param(cut, "is damaged or cut short", id="cut short"),
        pytest.param(
            lambda path: path.write_bytes(b"\x08\0\0\0\0\0\0\0{not json"), "damaged", id="no header"
        ),
        pytest.param(
            lambda path: path.write_bytes(b"\xff" * 8 + b"{"), "damaged", id="endless header"
        ),
        pytest.param(
            lambda path: save_file({"a": torch.ones(1)}, path), "without the model", id="bare"
        ),
        pytest.param(
            lambda path: save_file({"a": torch.ones(1)}, path, {ENTRY: "{"}), "damaged", id="JSON"
        ),
        pytest.param(
            lambda path: save_file({"a": torch.ones(1)}, path, {ENTRY: "[1]"}),
            "without the model",
            id="a list",
        ),
        pytest.param(
            lambda path: save_file({"a": torch.ones(1)}, path, {ENTRY: json.dumps({"format": 1})}),
            "not a detector's checkpoint",
            id="of another program",
        ),
        pytest.param(
            lambda path: write_safetensors(path, {**CONTENT, "class_names": ["a", "b"]}),
            "names 2 classes",
            id="one name too many",
        ),
    ],
)
def test_refusals(make, words, tmp_path):
    path = tmp_path / "best.safetensors"
    make(path)
    with pytest.raises(TaskError, match=words) as caught:
        load_checkpoint(path)
    assert caught.value.code is Code.MODEL
    assert "best.safetensors" in caught.value.sentence


def test_a_missing_package_is_one_sentence(tmp_path, monkeypatch):
    write_safetensors(tmp_path / "best.safetensors", CONTENT)
    monkeypatch.setitem(sys.modules, "safetensors", None)
    with pytest.raises(TaskError, match="needs the package safetensors"):
        load_checkpoint(tmp_path / "best.safetensors")
