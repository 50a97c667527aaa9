"""Official weight files are read as data: what loads, what is refused, and that nothing runs."""

from __future__ import annotations

import json
import os
import pathlib
import sys
import types
import zipfile

import numpy as np
import pytest
import torch
from torch import nn, serialization

from models.blocks import C3, SPPF, Bottleneck, Concat, Conv
from models.checkpoint import build_detector, load_checkpoint
from models.detect import Detect
from models.detector import Detector
from models.official import plain, read_torch_file
from utils.errors import Code, TaskError

OFFICIAL_HOMES = {
    Detector: ("models.yolo", "DetectionModel"),
    Detect: ("models.yolo", "Detect"),
    Conv: ("models.common", "Conv"),
    C3: ("models.common", "C3"),
    Bottleneck: ("models.common", "Bottleneck"),
    SPPF: ("models.common", "SPPF"),
    Concat: ("models.common", "Concat"),
}


@pytest.fixture
def official(monkeypatch, tiny):
    """Turn the tiny network into a module tree that pickles under the official names."""

    def disguise(module: nn.Module) -> nn.Module:
        if type(module) not in OFFICIAL_HOMES:
            # Containers: the official code has Sequential where ours has ModuleList.
            if isinstance(module, (nn.ModuleList, nn.Sequential)):
                return nn.Sequential(*(disguise(child) for child in module))
            return module
        home, name = OFFICIAL_HOMES[type(module)]
        package = sys.modules.get(home)
        if package is None or not hasattr(package, "__disguise__"):
            package = types.ModuleType(home)
            package.__dict__["__disguise__"] = True
            monkeypatch.setitem(sys.modules, home, package)
        if not hasattr(package, name):
            made = type(name, (nn.Module,), {"__module__": home, "__qualname__": name})
            setattr(package, name, made)
        twin = getattr(package, name)()
        twin._parameters.update(module._parameters)
        twin._buffers.update(module._buffers)
        twin._non_persistent_buffers_set = set(module._non_persistent_buffers_set)
        for key, child in module._modules.items():
            twin._modules[key] = None if child is None else disguise(child)
        return twin

    def build(names: object = ("a", "b", "c"), seed: int = 0) -> nn.Module:
        detector = tiny(seed=seed)
        model = disguise(detector).half()
        model.yaml = dict(detector.layout.definition)
        model.names = names
        return model

    return build


def _content(model: nn.Module, **more: object) -> dict[str, object]:
    return {"epoch": -1, "best_fitness": None, "model": model, "ema": None, **more}


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        pytest.param(["a", "b", "c"], ("a", "b", "c"), id="list"),
        pytest.param({0: "a", 1: "b", 2: "c"}, ("a", "b", "c"), id="mapping"),
        pytest.param({2: "c", 0: "a", 1: "b"}, ("a", "b", "c"), id="mapping out of order"),
        pytest.param([], ("0", "1", "2"), id="none, as from several GPUs"),
    ],
)
def test_stripped_file(official, tiny, tmp_path, names, expected):
    path = tmp_path / "best.pt"
    torch.save(_content(official(names)), path)
    checkpoint = load_checkpoint(path)
    assert checkpoint.class_names == expected
    own = tiny().half().float().state_dict()
    assert checkpoint.state.keys() == own.keys()
    assert all(torch.equal(checkpoint.state[key], own[key]) for key in own)
    build_detector(checkpoint)


def test_unstripped_file_gives_the_average(official, tiny, tmp_path):
    """A file of an unfinished run: numpy values, optimizer state, a path, and two models."""
    path = tmp_path / "last.pt"
    content = _content(
        official(seed=0),
        ema=official(seed=1),
        best_fitness=np.array([0.5]),
        updates=np.float64(3),
        optimizer={"state": {0: {"momentum_buffer": torch.ones(3)}}, "param_groups": [{"lr": 0.1}]},
        opt={"save_dir": pathlib.PurePosixPath("/runs/exp"), "imgsz": 320},
    )
    torch.save(content, path)
    checkpoint = load_checkpoint(path)
    key = "model.0.conv.weight"
    assert torch.equal(checkpoint.state[key], tiny(seed=1).half().float().state_dict()[key])
    assert checkpoint.metadata["opt"] == {"save_dir": "/runs/exp", "imgsz": 320}


@pytest.mark.parametrize("damage", [None, ValueError])
def test_the_allow_list_is_put_back(official, tmp_path, damage):
    path = tmp_path / "best.pt"
    torch.save(_content(official()) if damage is None else {"x": damage}, path)
    before = set(serialization.get_safe_globals())
    if damage is None:
        load_checkpoint(path)
    else:
        with pytest.raises(TaskError):
            load_checkpoint(path)
    assert set(serialization.get_safe_globals()) == before


class _Evil:
    def __init__(self, target: pathlib.Path) -> None:
        self.target = target

    def __reduce__(self):
        return os.mkdir, (str(self.target),)


def test_nothing_in_a_file_is_run(official, tmp_path):
    path, target = tmp_path / "evil.pt", tmp_path / "made"
    torch.save(_content(official(), opt=_Evil(target)), path)
    with pytest.raises(TaskError, match=r"evil\.pt asks for posix\.mkdir") as caught:
        load_checkpoint(path)
    assert caught.value.code is Code.MODEL
    assert not target.exists()


def test_a_name_another_library_allowed_is_still_refused(official, tmp_path):
    path = tmp_path / "best.pt"
    torch.save(_content(official(), more=types.SimpleNamespace()), path)
    serialization.add_safe_globals([types.SimpleNamespace])
    try:
        with pytest.raises(TaskError, match="SimpleNamespace"):
            load_checkpoint(path)
    finally:
        kept = [g for g in serialization.get_safe_globals() if g is not types.SimpleNamespace]
        serialization.clear_safe_globals()
        serialization.add_safe_globals(kept)


def test_other_kinds_of_model_are_refused(monkeypatch, tmp_path):
    module = types.ModuleType("models.yolo")
    module.SegmentationModel = type(
        "SegmentationModel", (nn.Module,), {"__module__": "models.yolo"}
    )
    monkeypatch.setitem(sys.modules, "models.yolo", module)
    torch.save({"model": module.SegmentationModel()}, tmp_path / "seg.pt")
    with pytest.raises(TaskError, match=r"models\.yolo\.SegmentationModel"):
        load_checkpoint(tmp_path / "seg.pt")


def _zip(path: pathlib.Path, member: str) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(member, b"x")


@pytest.mark.parametrize(
    ("make", "words"),
    [
        pytest.param(lambda p: None, "does not exist", id="missing"),
        pytest.param(lambda p: p.mkdir(), "does not exist", id="folder"),
        pytest.param(lambda p: p.write_bytes(b""), "is empty", id="empty"),
        pytest.param(lambda p: p.write_text("<html>"), "not a zip-based", id="web page"),
        pytest.param(lambda p: p.write_bytes(b"PK\x03\x04" + bytes(90)), "damaged", id="cut short"),
        pytest.param(lambda p: _zip(p, "a/b.txt"), "not a PyTorch file", id="other zip"),
        pytest.param(lambda p: _zip(p, "a/constants.pkl"), "TorchScript", id="TorchScript"),
        pytest.param(lambda p: _zip(p, "a/data.pkl"), "damaged", id="nonsense inside"),
        pytest.param(
            lambda p: torch.save([1], p, _use_new_zipfile_serialization=False),
            "not a zip-based",
            id="old PyTorch format",
        ),
    ],
)
def test_files_that_are_no_weights(tmp_path, make, words):
    path = tmp_path / "best.pt"
    make(path)
    with pytest.raises(TaskError, match=words) as caught:
        read_torch_file(path)
    assert caught.value.code is Code.MODEL
    assert str(path) in caught.value.sentence


def test_a_truncated_official_file(official, tmp_path):
    path = tmp_path / "best.pt"
    torch.save(_content(official()), path)
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(TaskError, match="damaged or cut short"):
        load_checkpoint(path)


def test_a_structure_without_end_is_refused(official, tmp_path):
    endless = official()
    endless._modules["again"] = endless
    torch.save(_content(endless), tmp_path / "best.pt")
    with pytest.raises(TaskError, match="makes no sense"):
        load_checkpoint(tmp_path / "best.pt")


def test_plain_keeps_only_data():
    value = {"a": (1, "x", None), 2: [object(), 0.5], (3,): True}
    assert plain(value) == {"a": [1, "x", None], 2: [None, 0.5], "(3,)": True}


def test_the_official_checkpoint(shared):
    """golden/yolov5n_official.json: what the official code found in its own file."""
    reference = json.loads((shared / "golden" / "yolov5n_official.json").read_text())
    checkpoint = load_checkpoint(shared / "golden" / "yolov5n_official.pt")
    assert checkpoint.class_names == tuple(reference["names"].values())
    assert len(checkpoint.state) == reference["state_dict_keys"]
    assert all(v.dtype in (torch.float32, torch.int64) for v in checkpoint.state.values())
    detector = build_detector(checkpoint)
    assert sum(p.numel() for p in detector.parameters()) == reference["parameters"]


def test_the_trained_reference_checkpoint(shared):
    """reference/bccd_yolov5n.pt: its options hold a pathlib path."""
    checkpoint = load_checkpoint(shared / "reference" / "bccd_yolov5n.pt")
    assert checkpoint.class_names == ("WBC", "RBC", "Platelets")
    assert isinstance(checkpoint.metadata["opt"]["save_dir"], str)
    build_detector(checkpoint)
