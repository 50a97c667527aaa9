"""Checkpoints: `.pt` and safetensors there and back, metadata, refusals, another class count."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from inference.predictor import load_predictor
from models.checkpoint import (
    FORMAT,
    Checkpoint,
    CheckpointMetadata,
    build_detector,
    checkpoint_of,
    load_checkpoint,
    save_checkpoint,
    write_safetensors,
)
from settings.detect import MiningSettings
from tests.models.weight_file_example import own_content, refused
from tools.sources import SourceDataset
from utils.errors import Code, TaskError

NAMES = ("cat", "dog", "owl")
METADATA = CheckpointMetadata(epoch=3, img_size=320, labelled_images=4, labelled_objects=(6, 0, 2))


@pytest.mark.parametrize("memory", [torch.contiguous_format, torch.channels_last])
def test_round_trip_is_exact(tiny, tmp_path, memory):
    detector, path = tiny().to(memory_format=memory), tmp_path / "best.pt"
    metadata = CheckpointMetadata(epoch=3, map50=0.5, other={"date": "today", "scores": (0.5, 1)})
    save_checkpoint(path, checkpoint_of(detector, NAMES, metadata))
    checkpoint = load_checkpoint(path)
    assert checkpoint.class_names == NAMES
    assert checkpoint.metadata == CheckpointMetadata(
        epoch=3, map50=0.5, other={"date": "today", "scores": [0.5, 1]}
    )
    images = torch.rand(1, 3, 32, 32)
    again = build_detector(checkpoint).to(memory_format=memory).eval()
    assert torch.equal(again.predict(images), detector.eval().predict(images))
    assert [p.name for p in tmp_path.iterdir()] == ["best.pt"]


def test_the_file_opens_without_running_code(tiny, tmp_path):
    save_checkpoint(tmp_path / "best.pt", checkpoint_of(tiny(), NAMES, METADATA))
    content = torch.load(tmp_path / "best.pt", weights_only=True)
    assert list(content) == ["format", "version", "layout", "class_names", "state", "metadata"]
    assert content["class_names"] == list(NAMES)
    assert content["metadata"] == {**METADATA.to_mapping(), "labelled_objects": [6, 0, 2]}


def test_half_takes_half_the_space_and_is_widened(tiny, tmp_path):
    checkpoint = checkpoint_of(tiny(width=8.0), NAMES)
    save_checkpoint(tmp_path / "full.pt", checkpoint)
    save_checkpoint(tmp_path / "half.pt", checkpoint, half=True)
    full, half = (load_checkpoint(tmp_path / f"{name}.pt") for name in ("full", "half"))
    assert (tmp_path / "half.pt").stat().st_size < 0.6 * (tmp_path / "full.pt").stat().st_size
    for key, value in full.state.items():
        assert half.state[key].dtype == value.dtype
        torch.testing.assert_close(half.state[key], value, atol=1e-3, rtol=1e-3)


def test_a_failed_write_leaves_the_old_file(tiny, tmp_path):
    path = tmp_path / "best.pt"
    save_checkpoint(path, checkpoint_of(tiny(), NAMES))
    before = path.read_bytes()
    bad = CheckpointMetadata(other={"bad": object()})
    with pytest.raises(AssertionError):
        save_checkpoint(path, checkpoint_of(tiny(), NAMES, bad))
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["best.pt"]


@pytest.mark.parametrize(
    ("entries", "expected"),
    [
        pytest.param({}, None, id="nothing"),
        pytest.param(METADATA.to_mapping(), (1.5, 0.0, 0.5), id="six objects in four images"),
        *(
            pytest.param({"labelled_images": images, "labelled_objects": objects}, None, id=name)
            for images, objects, name in [
                (4, [6, 0], "other classes"),
                (0, [6, 0, 2], "no image"),
                (4, "6 0 2", "text"),
                ("4", [6, 0, 2], "text too"),
                (4, [6, -1, 2], "negative"),
                (4, [6, float("nan"), 2], "nan"),
                (4, [6, None, 2], "a gap"),
            ]
        ),
    ],
)
def test_objects_per_image_of_metadata(entries, expected):
    assert CheckpointMetadata.from_mapping(entries).objects_per_image(3) == expected


@pytest.mark.parametrize(
    ("entries", "warned"),
    [({"img_size": 640}, False), ({}, False), ({"img_size": "320"}, False), ({"img_size": 320}, 1)],
)
def test_another_size_than_in_training_is_warned_of(entries, warned):
    warning = CheckpointMetadata.from_mapping(entries).size_warning(640)
    assert ("trained at 320 px and run at 640 px" in warning) == bool(warning) == bool(warned)


def test_metadata_keeps_the_entries_of_other_programs():
    entries = {"epoch": -1, "date": "2022", "opt": {"imgsz": 320}, "img_size": None}
    metadata = CheckpointMetadata.from_mapping(entries)
    assert metadata == CheckpointMetadata(epoch=-1, other={"date": "2022", "opt": {"imgsz": 320}})
    assert CheckpointMetadata.from_mapping(metadata.to_mapping()) == metadata


def test_a_training_records_its_class_counts(drawn: SourceDataset, weights: Path) -> None:
    predictor = load_predictor(weights, MiningSettings(img_size=64), torch.device("cpu"))
    images = drawn.splits["train"]
    counts = np.bincount(np.concatenate([image.classes for image in images]), minlength=3)
    assert counts.sum() > 0
    assert predictor.labelled_objects == pytest.approx((counts / len(images)).tolist())


@pytest.mark.parametrize(
    ("content", "words"),
    [
        pytest.param([1], "not a detector's checkpoint", id="a list"),
        pytest.param(
            {"w": torch.ones(1)}, "is a state dict: .* give the checkpoint", id="a state dict"
        ),
        pytest.param(own_content(version=2), "format version 2", id="of the future"),
        pytest.param(own_content(layout=[]), "makes no sense", id="layout is a list"),
        pytest.param(own_content(class_names="abc"), "makes no sense", id="names are a text"),
        pytest.param(own_content(class_names=["a", "b"]), "names 2 classes", id="a name too many"),
        pytest.param({"format": "ymir-yolov5", "version": 1}, "makes no sense", id="parts missing"),
    ],
)
def test_contents_that_are_refused(tmp_path, content, words):
    torch.save(content, tmp_path / "best.pt")
    assert str(tmp_path / "best.pt") in refused(tmp_path / "best.pt", words)


def example(**changes: object) -> Checkpoint:
    """Weights that share memory, in channels-last order, and a counter."""
    whole = torch.rand(2, 4, 3, 3).to(memory_format=torch.channels_last)
    state = {"whole": whole, "part": whole[:, 1:3], "count": torch.tensor(3)}
    metadata = CheckpointMetadata(epoch=3, other={"note": [None, 1]})
    given = {"definition": {"nc": 1}, "class_names": ("Zebra, größer",), "state": state}
    return Checkpoint(**{**given, "metadata": metadata, **changes})


@pytest.mark.parametrize("name", ["best.safetensors", "best.pt"])
def test_safetensors_round_trip_whatever_the_name(tmp_path, name):
    checkpoint = example()
    write_safetensors(tmp_path / name, checkpoint)
    read = load_checkpoint(tmp_path / name)
    assert (read.definition, read.class_names) == (checkpoint.definition, checkpoint.class_names)
    assert read.metadata == checkpoint.metadata
    assert read.state.keys() == checkpoint.state.keys()
    for key, value in checkpoint.state.items():
        assert torch.equal(read.state[key], value)
        assert read.state[key].dtype == value.dtype


def cut_short(path):
    write_safetensors(path, example())
    path.write_bytes(path.read_bytes()[:-4])


def with_header(**header: str):
    return lambda path: save_file({"a": torch.ones(1)}, path, header)


@pytest.mark.parametrize(
    ("write", "words"),
    [
        pytest.param(cut_short, "is damaged or cut short", id="cut short"),
        pytest.param(lambda p: p.write_bytes(b"\x08" + bytes(7) + b"{not json"), "damaged", id="-"),
        pytest.param(lambda p: p.write_bytes(b"\xff" * 8 + b"{"), "damaged", id="endless header"),
        pytest.param(with_header(), "without the model", id="bare"),
        pytest.param(with_header(**{FORMAT: "{"}), "damaged", id="no JSON"),
        pytest.param(with_header(**{FORMAT: "[1]"}), "without the model", id="a list"),
        pytest.param(with_header(**{FORMAT: '{"format": 1}'}), "not a detector's", id="another's"),
        pytest.param(
            lambda path: write_safetensors(path, example(class_names=("a", "b"))),
            "names 2 classes",
            id="one name too many",
        ),
    ],
)
def test_safetensors_that_are_refused(write, words, tmp_path):
    write(tmp_path / "best.safetensors")
    refused(tmp_path / "best.safetensors", words)


def test_safetensors_need_their_package(tmp_path, monkeypatch):
    write_safetensors(tmp_path / "best.safetensors", example())
    monkeypatch.setitem(sys.modules, "safetensors", None)
    with pytest.raises(TaskError, match="needs the package safetensors"):
        load_checkpoint(tmp_path / "best.safetensors")


def test_weights_that_do_not_fit_their_definition_and_bad_definitions_are_refused(tiny):
    checkpoint = checkpoint_of(tiny(), NAMES)
    del checkpoint.state["model.0.conv.weight"]
    checkpoint.state["model.0.extra"] = torch.ones(1)
    with pytest.raises(TaskError, match=r"2 tensors .* model\.0\.conv\.weight") as caught:
        build_detector(checkpoint)
    assert caught.value.code is Code.MODEL
    checkpoint.definition["head"] = [[-1, 1, "Focus", [3]]]
    with pytest.raises(TaskError, match="must be Detect") as caught:
        build_detector(checkpoint)
    assert caught.value.code is Code.MODEL


def test_another_class_count_keeps_all_but_the_head(tiny):
    checkpoint = checkpoint_of(tiny(), NAMES)
    built = build_detector(checkpoint, nc=5)
    assert built.nc == 5
    state = built.state_dict()
    changed = {key for key in state if not torch.equal(state[key], checkpoint.state[key])}
    assert all(".9.m." in key for key in changed)
    kept = checkpoint.state["model.0.conv.weight"].clone()
    torch.nn.init.zeros_(built.model[0].conv.weight)
    assert torch.equal(checkpoint.state["model.0.conv.weight"], kept)
