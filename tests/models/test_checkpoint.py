"""Weights to disk and back, and into a network for other classes."""

from __future__ import annotations

import pytest
import torch

from models.checkpoint import (
    build_detector,
    checkpoint_of,
    load_checkpoint,
    save_checkpoint,
)
from models.detector import Detector
from models.model_config import read_layout
from utils.errors import Code, TaskError

NAMES = ("cat", "dog", "owl")


def test_round_trip_is_exact(tiny, tmp_path):
    detector = tiny()
    metadata = {"epoch": 3, "scores": (0.5, None), "steps": {"momentum": torch.ones(2)}}
    save_checkpoint(tmp_path / "best.pt", checkpoint_of(detector, NAMES, metadata))
    checkpoint = load_checkpoint(tmp_path / "best.pt")
    assert checkpoint.class_names == NAMES
    assert checkpoint.metadata["epoch"] == 3
    assert checkpoint.metadata["scores"] == [0.5, None]
    assert torch.equal(checkpoint.metadata["steps"]["momentum"], torch.ones(2))
    images = torch.rand(1, 3, 32, 32)
    expected = detector.eval().predict(images)
    assert torch.equal(build_detector(checkpoint).eval().predict(images), expected)
    assert [p.name for p in tmp_path.iterdir()] == ["best.pt"]


def test_the_file_needs_no_code(tiny, tmp_path):
    save_checkpoint(tmp_path / "best.pt", checkpoint_of(tiny(), NAMES))
    content = torch.load(tmp_path / "best.pt", weights_only=True)
    assert content["class_names"] == list(NAMES)


def test_half_takes_half_the_space_and_is_widened(tiny, tmp_path):
    checkpoint = checkpoint_of(Detector(read_layout("yolov5n", 3)), NAMES)
    save_checkpoint(tmp_path / "full.pt", checkpoint)
    save_checkpoint(tmp_path / "half.pt", checkpoint, half=True)
    full, half = (load_checkpoint(tmp_path / f"{name}.pt") for name in ("full", "half"))
    assert (tmp_path / "half.pt").stat().st_size < 0.6 * (tmp_path / "full.pt").stat().st_size
    for key, value in full.state.items():
        assert half.state[key].dtype == value.dtype
        torch.testing.assert_close(half.state[key], value, atol=1e-3, rtol=1e-3)


def test_channels_last_weights_are_stored_all_the_same(tiny, tmp_path):
    detector = tiny().to(memory_format=torch.channels_last)
    save_checkpoint(tmp_path / "best.pt", checkpoint_of(detector, NAMES))
    state = load_checkpoint(tmp_path / "best.pt").state
    assert all(torch.equal(state[key], value) for key, value in detector.state_dict().items())


def test_a_checkpoint_does_not_follow_the_network(tiny):
    detector = tiny()
    checkpoint = checkpoint_of(detector, NAMES)
    kept = checkpoint.state["model.0.conv.weight"].clone()
    torch.nn.init.zeros_(detector.model[0].conv.weight)
    assert torch.equal(checkpoint.state["model.0.conv.weight"], kept)


def test_a_failed_write_leaves_the_old_file(tiny, tmp_path):
    path = tmp_path / "best.pt"
    save_checkpoint(path, checkpoint_of(tiny(), NAMES))
    before = path.read_bytes()
    with pytest.raises(AssertionError):
        save_checkpoint(path, checkpoint_of(tiny(), NAMES, {"bad": object()}))
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["best.pt"]


def _own(**changes):
    whole = {
        "format": "ymir-yolov5",
        "version": 1,
        "layout": {"nc": 1},
        "class_names": ["a"],
        "state": {},
        "metadata": {},
    }
    return {**whole, **changes}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        pytest.param([1], "not a detector's checkpoint", id="a list"),
        pytest.param({"w": torch.ones(1)}, "not a detector's checkpoint", id="a bare state dict"),
        pytest.param(_own(version=2), "format version 2", id="of the future"),
        pytest.param(_own(layout=[]), "makes no sense", id="layout is a list"),
        pytest.param(_own(class_names="abc"), "makes no sense", id="names are a text"),
        pytest.param(_own(class_names=["a", "b"]), "names 2 classes", id="one name too many"),
        pytest.param({"format": "ymir-yolov5", "version": 1}, "makes no sense", id="parts missing"),
    ],
)
def test_contents_that_are_refused(tmp_path, content, words):
    path = tmp_path / "best.pt"
    torch.save(content, path)
    with pytest.raises(TaskError, match=words) as caught:
        load_checkpoint(path)
    assert caught.value.code is Code.MODEL
    assert str(path) in caught.value.sentence


def test_weights_that_do_not_fit_their_definition_are_refused(tiny):
    checkpoint = checkpoint_of(tiny(), NAMES)
    del checkpoint.state["model.0.conv.weight"]
    checkpoint.state["model.0.extra"] = torch.ones(1)
    with pytest.raises(TaskError, match=r"2 tensors .* model\.0\.conv\.weight") as caught:
        build_detector(checkpoint)
    assert caught.value.code is Code.MODEL


def test_a_bad_definition_in_a_weight_file_is_a_model_error(tiny):
    checkpoint = checkpoint_of(tiny(), NAMES)
    checkpoint.layout["head"] = [[-1, 1, "Focus", [3]]]
    with pytest.raises(TaskError, match="must be Detect") as caught:
        build_detector(checkpoint)
    assert caught.value.code is Code.MODEL


def test_build_for_another_class_count_keeps_all_but_the_head(tiny):
    checkpoint = checkpoint_of(tiny(), NAMES)
    built = build_detector(checkpoint, nc=5)
    assert built.nc == 5
    state = built.state_dict()
    changed = {key for key in state if not torch.equal(state[key], checkpoint.state[key])}
    assert all(".9.m." in key for key in changed)
