"""Official checkpoints: every layout from v5.0 to v7.0 gives definition, names and weights."""

from __future__ import annotations

import argparse
import collections
import datetime
import functools
import json
import pathlib
import types

import numpy as np
import pytest
import torch
from torch import nn

from models.checkpoint import build_detector, load_checkpoint
from models.safe_load.yolov5 import MAX_CLASSES
from tests.models.weight_file_example import change_pickle
from utils.errors import Code, TaskError

FIRST = "model.0.conv.weight"


def content_of(model: nn.Module | None, **more: object) -> dict[str, object]:
    return {"epoch": -1, "best_fitness": None, "model": model, "ema": None, **more}


def halved(detector: nn.Module) -> dict[str, torch.Tensor]:
    """A state dict as it comes back from a file in half precision."""
    return detector.half().float().state_dict()


@pytest.fixture
def saved(tmp_path):
    """Save a content and return the file."""

    def save(content: object) -> pathlib.Path:
        torch.save(content, tmp_path / "best.pt")
        return tmp_path / "best.pt"

    return save


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        pytest.param(["a", "b", "c"], ("a", "b", "c"), id="list"),
        pytest.param({2: "c", 0: "a", 1: "b"}, ("a", "b", "c"), id="mapping out of order"),
        pytest.param({"10": "c", "9": "b", "0": "a"}, ("a", "b", "c"), id="keys are text"),
        pytest.param(None, ("0", "1", "2"), id="none, as from several GPUs"),
        pytest.param([np.str_("ameise"), "b", 3], ("ameise", "b", "3"), id="numpy text"),
        pytest.param(np.array(["äh", "b", "c"]), ("äh", "b", "c"), id="numpy array"),
        pytest.param(np.array(["äh", "b", "c"], ">U9"), ("äh", "b", "c"), id="other byte order"),
        pytest.param(np.array(["a", "b", "c"], object), ("a", "b", "c"), id="array of objects"),
        pytest.param({np.int64(1): "b", 0: "a", 2: "c"}, ("a", "b", "c"), id="numpy keys"),
    ],
)
def test_stripped_file(official, tiny, saved, names, expected):
    checkpoint = load_checkpoint(saved(content_of(official(names))))
    assert checkpoint.class_names == expected
    own = halved(tiny())
    built = build_detector(checkpoint).state_dict()
    assert built.keys() == own.keys()
    assert all(torch.equal(built[key], own[key]) for key in own)


def unstripped(official, **changes: object) -> dict[str, object]:
    """What an unfinished run leaves: numpy values, an optimizer, a path, and two models."""
    model = official(seed=0)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, nesterov=True)
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    optimizer.zero_grad()
    whole = {
        "epoch": 3,
        "best_fitness": np.array([0.25]),
        "model": official(seed=0),
        "ema": official(seed=1),
        "updates": np.int64(17),
        "optimizer": optimizer.state_dict(),
        "opt": {"save_dir": pathlib.PurePosixPath("/runs/exp"), "imgsz": 320, "hyp": {"lr0": 0.01}},
        "git": {"remote": None, "branch": "master", "commit": "0" * 40},
        "date": "2022-11-22T12:00:00",
        "wandb_id": None,
        "training_results": "  0/2  1G  0.1\n" * 3,
    }
    return {**whole, **changes}


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({}, id="numpy array"),
        pytest.param({"best_fitness": np.float64(0.25)}, id="numpy scalar"),
        pytest.param({"best_fitness": np.float32(0.25)}, id="numpy scalar of four bytes"),
        pytest.param({"best_fitness": 0.25}, id="plain number"),
        pytest.param({"opt": {"device": torch.device("cuda:0"), "s": {1, 2}}}, id="device, set"),
        pytest.param({"opt": {"shape": torch.Size([1, 2])}}, id="torch.Size"),
    ],
)
def test_unstripped_file_gives_the_ema(official, tiny, saved, changes):
    path = saved(unstripped(official, **changes))
    # numpy 2 gave the same functions another name.
    first, second = b"numpy.core.", b"numpy._core."
    for old, new in ((first, first), (first, second), (second, first)):
        change_pickle(path, lambda pickled, old=old, new=new: pickled.replace(old, new))
        checkpoint = load_checkpoint(path)
        assert torch.equal(checkpoint.state[FIRST], halved(tiny(seed=1))[FIRST])
        assert checkpoint.metadata.other["best_fitness"] == 0.25
        assert checkpoint.metadata.epoch == 3
        if "opt" not in changes:
            expected = {"save_dir": "/runs/exp", "imgsz": 320, "hyp": {"lr0": 0.01}}
            assert checkpoint.metadata.other["opt"] == expected


def test_names_come_from_whichever_model_has_them(official, saved):
    """On several GPUs the live model lacks names, because they were put on its wrapper."""
    names = ["x", "y", "z"]
    for live, ema in ((None, names), (names, None)):
        content = unstripped(official, model=official(live), ema=(official(ema), 17))
        assert load_checkpoint(saved(content)).class_names == tuple(names)


def test_v5_file(official, named, tiny, saved):
    """Class Model, anchors a second time, space-to-depth stem."""
    model = official(["a", "b", "c"], root="Model")
    grid = model._modules["model"][-1]._buffers["anchors"].view(2, 1, -1, 1, 1, 2)
    model._modules["model"][-1].register_buffer("anchor_grid", grid.clone())
    assert load_checkpoint(saved(content_of(model))).state.keys() == tiny().state_dict().keys()
    stem = named("models.common.Focus")()
    stem.conv = model._modules["model"][0]
    stem.conv.conv = nn.Conv2d(12, 8, 3, 1, 1, bias=False)
    model._modules["model"][0] = stem
    model.yaml["backbone"] = [[-1, 1, "Focus", [8, 3]], *model.yaml["backbone"][1:]]
    checkpoint = load_checkpoint(saved(content_of(model)))
    assert "model.0.conv.conv.weight" in checkpoint.state
    assert checkpoint.definition["backbone"][0] == [-1, 1, "Focus", [8, 3]]


def test_a_live_model_in_float32_with_synchronised_normalisation_and_cached_grids(
    official, tiny, saved
):
    """An evaluated model keeps its grids, expanded over the anchors, as plain attributes."""
    model = nn.SyncBatchNorm.convert_sync_batchnorm(official().float())
    head = model._modules["model"][-1]
    head.grid = [torch.zeros(1, 1, 8, 8, 2).expand(1, 2, 8, 8, 2)]
    head.stride = torch.tensor([4.0, 8.0])
    built = build_detector(load_checkpoint(saved(content_of(model)))).state_dict()
    assert torch.equal(built["model.0.bn.running_var"], halved(tiny())["model.0.bn.running_var"])


@pytest.mark.parametrize("path", ["models.common.CBAM", "torch.nn.modules.rnn.LSTM"])
def test_layers_that_no_detection_model_has_are_named(official, named, saved, path):
    model = official()
    model.extra = torch.nn.LSTM(1, 1) if path.endswith("LSTM") else named(path)()
    with pytest.raises(TaskError, match=f"holds a {path}, which is not part of") as caught:
        load_checkpoint(saved(content_of(model)))
    assert caught.value.code is Code.MODEL


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("ultralytics.nn.tasks.DetectionModel", "a network of the ultralytics package"),
        ("models.yolo.SegmentationModel", "a YOLOv5 segmentation model"),
        ("models.yolo.ClassificationModel", "a classification model"),
        ("torchvision.models.resnet.ResNet", "a classification model"),
        ("yolov6.models.yolo.Model", "a YOLOv6 network"),
    ],
)
def test_other_networks_are_called_by_name(named, saved, path, words):
    model = named("models.yolo.Other")()
    model.layer = nn.Conv2d(1, 1, 1)
    file = saved(content_of(model))
    module, _, kind = path.rpartition(".")
    written = f"c{module}\n{kind}\n".encode()
    change_pickle(file, lambda pickled: pickled.replace(b"cmodels.yolo\nOther\n", written))
    with pytest.raises(TaskError, match=f"is {words}.*: it holds a {path}; run it with") as caught:
        load_checkpoint(file)
    assert caught.value.code is Code.MODEL


def test_yolov7_is_known_by_its_layers(official, named, saved):
    model = official()
    model._modules["model"][4] = named("models.common.SPPCSPC")()
    with pytest.raises(TaskError, match=r"is a YOLOv7 network: it holds a models\.common\.SPPCSPC"):
        load_checkpoint(saved(content_of(model)))


def test_a_fused_model_is_called_so(official, saved):
    """v7.0's fuse() also leaves a bound method on each convolution."""
    model = official()
    for layer in model.modules():
        if type(layer).__name__ == "Conv":
            del layer.bn
            layer.forward = layer.extra_repr
    with pytest.raises(TaskError, match=r"is a fused model: .* saved without fuse"):
        load_checkpoint(saved(content_of(model)))


class Tracker:
    """An object of the user's program."""

    def __init__(self) -> None:
        self.seen: list[object] = [self]


class Options(dict[str, object]):
    """A mapping of the user's program."""


def logged(layer: nn.Module, *_: object) -> None:
    """A hook of the user's program."""


@pytest.mark.parametrize("protocol", [2, 4])
def test_what_nobody_reads_never_refuses_a_file(official, tiny, saved, tmp_path, protocol):
    model = official()
    first = next(m for m in model.modules() if type(m).__name__ == "Conv")
    first.register_forward_hook(logged)
    first.register_forward_hook(functools.partial(logged, model))
    first.register_forward_pre_hook(model.eval)
    opened = argparse.Namespace(imgsz=320, save_dir=pathlib.PurePosixPath("/runs"), cls=Tracker)
    content = content_of(
        model,
        ema=None,
        opt=opened,
        date=datetime.datetime.now(datetime.timezone.utc),
        git=types.SimpleNamespace(remote=None, origin=Options(a=1)),
        wandb=Tracker(),
        seen=collections.defaultdict(list, a=[1]),
        queue=collections.deque([collections.Counter("ab"), frozenset("ab"), slice(1)]),
        version=torch.torch_version.TorchVersion("2.1"),
        types=[torch.float16, np.float32, list],
        random=np.random.default_rng(0),
        keyed={(640, 640): Options(), pathlib.PurePosixPath("a"): 1},
        criterion=nn.BCEWithLogitsLoss(),
    )
    torch.save(content, tmp_path / "best.pt", pickle_protocol=protocol)
    checkpoint = load_checkpoint(tmp_path / "best.pt")
    assert torch.equal(checkpoint.state[FIRST], halved(tiny())[FIRST])
    assert checkpoint.metadata.img_size == 320
    assert checkpoint.metadata.other["opt"] == {"imgsz": 320, "save_dir": "/runs", "cls": None}


@pytest.mark.parametrize(
    ("old", "new"),
    [(b"cpathlib\n", b"cpathlib._local\n"), (b"cmodels.", b"cyolov5.models.")],
    ids=["Python 3.13", "pip package"],
)
def test_names_of_other_versions(official, saved, old, new):
    path = saved(unstripped(official))
    change_pickle(path, lambda pickled: pickled.replace(old, new))
    assert new in path.read_bytes()
    assert load_checkpoint(path).metadata.other["opt"]["save_dir"] == "/runs/exp"


def test_wrappers_of_several_gpus(official, named, tiny, saved):
    """A wrapped live model, alone and beside a plain EMA."""
    live = nn.DataParallel(official())
    assert load_checkpoint(saved(content_of(live))).state.keys() == tiny().state_dict().keys()
    wrapper = named("torch.nn.parallel.distributed.DistributedDataParallel")()
    wrapper.module, wrapper.hook = official(seed=2), Tracker()
    checkpoint = load_checkpoint(saved(content_of(wrapper, ema=official(None, seed=1))))
    assert torch.equal(checkpoint.state[FIRST], halved(tiny(seed=1))[FIRST])
    assert checkpoint.class_names == ("a", "b", "c")


@pytest.mark.parametrize(
    "options",
    [{"imgsz": 320}, {"img_size": [320, 640]}, argparse.Namespace(imgsz=320)],
    ids=["v7.0", "v5.0", "namespace"],
)
def test_the_size_of_training_is_known(official, saved, options):
    metadata = load_checkpoint(saved(content_of(official(), opt=options))).metadata
    assert "trained at 320 px" in metadata.size_warning(640)
    assert not metadata.size_warning(320)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        pytest.param({"yaml": None}, "without its definition", id="no definition"),
        pytest.param({"nc": None}, "which classes it knows", id="no class count"),
        pytest.param({"nc": 10**12}, "which classes it knows", id="a billion classes"),
        pytest.param({"nc": MAX_CLASSES + 1}, "which classes it knows", id="too many"),
        pytest.param({"nc": True}, "which classes it knows", id="a truth value"),
        pytest.param({"names": "abc"}, "which classes it knows", id="names are one text"),
        pytest.param({"names": ["a", None, "c"]}, "something other than text", id="no text"),
        pytest.param({"names": ["a"]}, "names 1 classes but has outputs for 3", id="too few"),
        pytest.param({"names": {"x": "a"}}, "makes no sense", id="keys are no numbers"),
    ],
)
def test_models_that_say_too_little(official, saved, changes, words):
    model = official()
    if "nc" in changes:
        model.yaml["nc"], model.names = changes["nc"], []
    else:
        vars(model).update(changes)
    with pytest.raises(TaskError, match=words) as caught:
        load_checkpoint(saved(content_of(model)))
    assert caught.value.code is Code.MODEL


def test_the_reference_checkpoints(shared):
    """golden/yolov5n_official.json: what the official code found in its own file."""
    reference = json.loads((shared / "golden" / "yolov5n_official.json").read_text())
    checkpoint = load_checkpoint(shared / "golden" / "yolov5n_official.pt")
    assert checkpoint.class_names == tuple(reference["names"].values())
    assert len(checkpoint.state) == reference["state_dict_keys"]
    assert all(v.dtype in (torch.float32, torch.int64) for v in checkpoint.state.values())
    detector = build_detector(checkpoint)
    assert sum(p.numel() for p in detector.parameters()) == reference["parameters"]
    trained = load_checkpoint(shared / "reference" / "bccd_yolov5n.pt")
    assert trained.class_names == ("WBC", "RBC", "Platelets")
    assert isinstance(trained.metadata.other["opt"]["save_dir"], str)
    build_detector(trained)
