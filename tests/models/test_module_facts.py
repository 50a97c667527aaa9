"""Facts that an official file states twice: the modules decide, and the log says so."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from models.checkpoint import build_detector, checkpoint_of, load_checkpoint, save_checkpoint
from models.detector import Detector
from models.extra_blocks import BottleneckCSP
from models.model_config import parse_model_config
from tests.models.weight_file_example import refused

Change = Callable[[nn.Module], None]


@pytest.fixture
def written(official, tmp_path):
    """Save the official twin of the tiny network after a change, and return the file."""

    def write(change: Change) -> Path:
        model = official()
        model.yaml = copy.deepcopy(model.yaml)
        change(model)
        torch.save({"model": model}, tmp_path / "best.pt")
        return tmp_path / "best.pt"

    return write


def convolutions(model: nn.Module) -> list[nn.Module]:
    return [module for module in model.modules() if hasattr(module, "act")]


def with_activation(activation: nn.Module, stated: str = "") -> Change:
    def change(model: nn.Module) -> None:
        for module in convolutions(model):
            module.act = activation
        if stated:
            model.yaml["activation"] = stated

    return change


def expected(tiny: Callable[..., Detector], **changes: object) -> Detector:
    """The tiny network with another definition, its weights as they come from a file."""
    source = tiny().half().float()
    detector = Detector(parse_model_config({**source.config.definition, **changes}))
    detector.load_state_dict(source.state_dict())
    return detector.eval()


def outputs(detector: Detector) -> torch.Tensor:
    image = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    return detector.eval().predict(image)


@pytest.mark.parametrize(
    ("activation", "text"),
    [
        (nn.ReLU(), "nn.ReLU()"),
        (nn.LeakyReLU(0.1), "nn.LeakyReLU(0.1)"),
        (nn.Hardswish(), "nn.Hardswish()"),
        (nn.Mish(), "nn.Mish()"),
        (nn.Identity(), "nn.Identity()"),
        (nn.ELU(0.5), "nn.ELU(0.5)"),
    ],
)
@pytest.mark.parametrize("stated", ["", "nn.GELU()"])
def test_the_activation_is_that_of_the_modules(
    written, tiny, tmp_path, caplog, activation, text, stated
):
    caplog.set_level(logging.INFO)
    checkpoint = load_checkpoint(written(with_activation(activation, stated)))
    assert f"activation {text} (definition: {stated or 'nn.SiLU()'})" in caplog.text
    detector = build_detector(checkpoint)
    reference = outputs(expected(tiny, activation=text))
    assert torch.equal(outputs(detector), reference)
    # It stays so in files of this program.
    save_checkpoint(tmp_path / "own.pt", checkpoint_of(detector, ("a", "b", "c")))
    assert torch.equal(outputs(build_detector(load_checkpoint(tmp_path / "own.pt"))), reference)


def test_nothing_is_said_where_both_agree(written, caplog):
    caplog.set_level(logging.INFO)
    load_checkpoint(written(with_activation(nn.ReLU(), "nn.ReLU()")))
    assert not caplog.text


def norms(model: nn.Module) -> list[nn.BatchNorm2d]:
    return [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]


def test_constants_of_normalisation(written, tiny, caplog):
    def change(model: nn.Module) -> None:
        for module in norms(model):
            module.eps, module.momentum = 0.1, 0.2

    caplog.set_level(logging.INFO)
    detector = build_detector(load_checkpoint(written(change)))
    assert {(norm.eps, norm.momentum) for norm in norms(detector)} == {(0.1, 0.2)}
    assert "batch_norm_eps 0.1 (definition: 0.001)" in caplog.text
    reference = expected(tiny)
    for norm in norms(reference):
        norm.eps = 0.1
    assert torch.equal(outputs(detector), outputs(reference))


def test_upsampling_channels_and_stride_of_a_convolution(written, tiny, caplog):
    def change(model: nn.Module) -> None:
        layers = model._modules["model"]
        layers[6].mode = "bilinear"
        model.yaml["ch"] = 1
        rows = model.yaml["backbone"]
        rows[3] = [-1, 1, "Conv", [16, 3, 1]]

    caplog.set_level(logging.INFO)
    detector = build_detector(load_checkpoint(written(change)))
    for words in (
        "ch 3 (definition: 1)",
        "layer 3 Conv [16, 3, 2] (definition: [16, 3, 1])",
        "layer 6 nn.Upsample ['None', 2.0, 'bilinear'] (definition: ['None', 2, 'nearest'])",
    ):
        assert words in caplog.text
    reference = expected(tiny)
    reference.model[6].mode = "bilinear"
    assert torch.equal(outputs(detector), outputs(reference))


def test_anchors(written, caplog):
    def change(model: nn.Module) -> None:
        model._modules["model"][-1].anchors[0, 0] = torch.tensor([3.0, 5.0])

    caplog.set_level(logging.INFO)
    detector = build_detector(load_checkpoint(written(change)))
    assert detector.anchors[0, 0].tolist() == [3, 5]
    assert "anchors 12x20, " in caplog.text


def one_other_activation(model: nn.Module) -> None:
    convolutions(model)[0].act = nn.ReLU()


def one_other_norm(model: nn.Module) -> None:
    norms(model)[0].eps = 1e-5


def unknown_activation(model: nn.Module) -> None:
    with_activation(nn.Hardsigmoid())(model)


def parametric_activation(model: nn.Module) -> None:
    with_activation(nn.PReLU())(model)


def approximate(model: nn.Module) -> None:
    with_activation(nn.GELU(approximate="tanh"))(model)


def padding(model: nn.Module) -> None:
    model._modules["model"][1].conv.padding = (0, 0)


def pooling(model: nn.Module) -> None:
    model._modules["model"][4].m.kernel_size = 3


def shortcut(model: nn.Module) -> None:
    next(module for module in model.modules() if hasattr(module, "add")).add = False


def wiring(model: nn.Module) -> None:
    model._modules["model"][7].f = [-1, 1]


def strides(model: nn.Module) -> None:
    del model._modules["model"][-1]._buffers["stride"]
    model._modules["model"][-1].stride = torch.tensor([8.0, 16.0])


def gray(model: nn.Module) -> None:
    model.yaml["ch"] = 1
    model._modules["model"][0].conv = nn.Conv2d(1, 8, 6, 2, 2, bias=False)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (one_other_activation, r"mixes layers of different activation \(nn.ReLU\(\), nn.SiLU\(\)"),
        (one_other_norm, "mixes layers of different batch_norm_eps"),
        (unknown_activation, "activation torch.nn.modules.activation.Hardsigmoid, which is not"),
        (parametric_activation, "holds a torch.nn.modules.activation.PReLU"),
        (approximate, "activation torch.nn.modules.activation.GELU, which is not"),
        (padding, r"model.1.conv has padding \(0, 0\)"),
        (pooling, "model.4.m has kernel_size 3"),
        (shortcut, "has add False"),
        (wiring, r"layer 7 takes its input from \[-1, 1\]"),
        (strides, r"the head has the strides \[8.0, 16.0\]"),
        (gray, "images of 1 channels"),
    ],
)
def test_what_a_definition_cannot_say_is_refused(written, change, words):
    refused(written(change), words)


def test_the_joint_activation_of_early_versions(named, tmp_path):
    """v3.0's blocks end their branches in LeakyReLU(0.1), those of v7.0 in SiLU."""
    rows = [[-1, 1, "Conv", [8, 3, 2]], [-1, 1, "BottleneckCSP", [8]]]
    head = [[[-1], 1, "Detect", ["nc", "anchors"]]]
    definition = {"nc": 1, "depth_multiple": 1.0, "width_multiple": 1.0, "anchors": [[9, 9]]}
    definition |= {"backbone": rows, "head": head}
    detector = Detector(parse_model_config(definition))
    homes = {"Conv": "common", "BottleneckCSP": "common", "Bottleneck": "common", "Detect": "yolo"}

    def twin(module: nn.Module) -> nn.Module:
        kind = type(module).__name__
        made = named(f"models.{homes[kind]}.{kind}")() if kind in homes else nn.Sequential()
        if not (kind in homes or isinstance(module, nn.ModuleList | nn.Sequential)):
            return module
        made._parameters.update(module._parameters)
        made._buffers.update(module._buffers)
        for key, child in module._modules.items():
            made._modules[key] = twin(child)
        if kind in ("Conv", "BottleneckCSP"):
            made.act = nn.LeakyReLU(0.1)
        return made

    model = named("models.yolo.Model")()
    model.model, model.yaml, model.names = twin(detector.model), definition, ["a"]
    model._modules["model"][-1]._non_persistent_buffers_set = {"stride"}
    torch.save({"model": model}, tmp_path / "best.pt")
    read = build_detector(load_checkpoint(tmp_path / "best.pt"))
    joint = next(module for module in read.modules() if isinstance(module, BottleneckCSP)).act
    assert isinstance(joint, nn.LeakyReLU)
    assert joint.negative_slope == 0.1
    assert str(read.config.activation) == "nn.LeakyReLU(0.1)"
