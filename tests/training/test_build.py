"""Parts of a training from its settings: network, frozen layers, augmentation, batches, loss."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import nn

from data.samplers import BatchingConfig
from models.checkpoint import checkpoint_of, load_checkpoint, save_checkpoint
from models.detector import Detector
from models.model_config import read_model_config
from settings.train import TrainSettings
from training.build import (
    build_augmentation,
    build_batching,
    build_criterion,
    build_network,
    freeze,
    set_batch_norm_momentum,
    set_train_mode,
)
from training.optimizer import OptimizerStep, build_optimizer
from utils.errors import Code, TaskError
from utils.official_weights import COCO_START

NAMES = ("cat", "dog")


def build(
    model: str, weights: Path | None = None, names: Sequence[str] = NAMES, **change: Any
) -> Detector:
    return build_network(TrainSettings(model=model, **change), weights, names)[0]


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(1)
    path = tmp_path_factory.mktemp("pretrained") / "best.pt"
    save_checkpoint(path, checkpoint_of(Detector(read_model_config("yolov5n", 2)), NAMES))
    return path


def test_from_scratch(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    assert build("yolov5n", None, ("cat", "owl", "dog")).nc == 3
    assert caplog.messages == [
        "no weights given: training yolov5n from scratch; with few images start from COCO weights "
        f"(docs/weights.md): {COCO_START}",
        "yolov5n: 214 layers, 1.77 M parameters, 4.2 GFLOPs at 640 px",
    ]


def test_the_architecture_is_that_of_the_weights(
    pretrained: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    network = build("", pretrained, ("dog", "emu"))
    assert network.model[0].conv.weight.shape[0] == 16
    assert "349 of 349 tensors taken" in caplog.text
    assert "class dog <- dog" in caplog.text
    assert "class emu <- (fresh)" in caplog.text
    assert "left behind: cat" in caplog.text
    assert "Anchors: those of the weights." in caplog.text
    assert "yolov5s" not in caplog.text


def test_without_weights_the_model_has_a_default(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    assert build("").model[0].conv.weight.shape[0] == 32
    assert "yolov5s: 214 layers" in caplog.text


@pytest.mark.parametrize("model", ["yolov5s", "yolov5s.yaml", "s", "yolov5-p2", "yolov5n6"])
def test_a_model_beside_weights_of_another_network_is_built(
    pretrained: Path, caplog: pytest.LogCaptureFixture, model: str
) -> None:
    """As in v7.0: what was asked, from the tensors that fit."""
    caplog.set_level(logging.INFO)
    torch.manual_seed(0)
    network = build(model, pretrained)
    expected = read_model_config(model, 2)
    assert network.config.layers == expected.layers
    assert f"model {model} is another network than that of {pretrained}" in caplog.text
    assert any(line.startswith(f"{model}: ") for line in caplog.messages)
    state, theirs = network.state_dict(), load_checkpoint(pretrained).state
    fit = [k for k, v in state.items() if k in theirs and theirs[k].shape == v.shape]
    head = f"model.{len(network.model) - 1}."
    taken = [key for key in fit if not key.startswith(head)]
    assert taken
    assert all(torch.equal(state[key], theirs[key]) for key in taken)
    # The anchors are those of the model: nothing of the weights' head fits.
    pixels = (network.anchors * network.stride.view(-1, 1, 1)).flatten(1)
    torch.testing.assert_close(
        pixels, Detector(expected).anchors.flatten(1) * network.stride[:, None]
    )
    assert "Anchors: those of the model" in caplog.text


def test_weights_of_the_same_classes_are_copied_whole_and_take_no_random_numbers(
    pretrained: Path,
) -> None:
    """A seeded training draws its fresh head from the same numbers as ever."""
    torch.manual_seed(5)
    network = build("yolov5n", pretrained)
    after = torch.rand(3)
    for key, tensor in load_checkpoint(pretrained).state.items():
        assert torch.equal(network.state_dict()[key], tensor), key
    torch.manual_seed(5)
    Detector(read_model_config("yolov5n", 2))
    assert torch.equal(torch.rand(3), after)


def model_file(folder: Path, **changes: object) -> str:
    path = folder / "mine.yaml"
    path.write_text(yaml.safe_dump({**read_model_config("yolov5n", 2).definition, **changes}))
    return str(path)


def test_a_model_file_has_its_own_anchors(
    pretrained: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    anchors = [[4, 5, 6, 7, 8, 9], [14, 15, 16, 17, 18, 19], [44, 45, 46, 47, 48, 49]]
    network = build(model_file(tmp_path, anchors=anchors), pretrained)
    pixels = network.anchors * network.stride.view(-1, 1, 1)
    torch.testing.assert_close(pixels.flatten(1), torch.tensor(anchors, dtype=torch.float32))
    assert "Anchors: those that the task sets" in caplog.text
    assert "348 of 349 tensors taken" in caplog.text
    caplog.clear()
    build("yolov5n", pretrained, anchors=3)
    assert "Anchors: those that the task sets" in caplog.text


def test_the_setting_replaces_the_activation(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    activation = "nn.LeakyReLU(0.1)"
    network = build("yolov5n", activation=activation)
    assert str(network.config.activation) == activation
    save_checkpoint(tmp_path / "best.pt", checkpoint_of(network, NAMES))
    # Weights bring their own activation, which the setting may replace again.
    again = build("yolov5n", tmp_path / "best.pt")
    assert again.config.activation == network.config.activation
    other = build("yolov5n", tmp_path / "best.pt", activation="nn.Mish()")
    assert str(other.config.activation) == "nn.Mish()"
    assert f"activation: nn.Mish() is trained, the weights come from {activation}" in caplog.text
    assert load_checkpoint(tmp_path / "best.pt").definition["activation"] == activation
    with pytest.raises(TaskError, match="activation 'Swish' is not one of SiLU, ReLU") as caught:
        build("yolov5n", activation="Swish")
    assert caught.value.code is Code.CONFIG


def test_batch_norm_momentum_is_of_the_training_alone(pretrained: Path, tmp_path: Path) -> None:
    network, images = build("yolov5n", pretrained), torch.rand(2, 3, 64, 64)
    set_batch_norm_momentum(network, 1)
    network.train()(images)
    first = network.units[0]
    assert first.bn is not None
    torch.testing.assert_close(first.bn.running_mean, first.conv(images).mean((0, 2, 3)))
    save_checkpoint(tmp_path / "best.pt", checkpoint_of(network, NAMES))
    again = build("yolov5n", tmp_path / "best.pt")
    assert {m.momentum for m in again.modules() if isinstance(m, nn.BatchNorm2d)} == {0.03}


def test_placeholder_anchors_are_refused_until_they_are_fitted() -> None:
    """Defect 20 of v7.0: without AutoAnchor it trained on anchors without a width."""
    network = Detector(read_model_config("yolov5-p34", nc=3))
    settings = TrainSettings()
    with pytest.raises(TaskError, match=r"anchors: 3.*list the widths and heights") as caught:
        build_criterion(settings, network, 640)
    assert caught.value.code is Code.CONFIG
    network.anchors.copy_(torch.tensor([[1.0, 1.5], [2.0, 2.0], [3.5, 3.0]]))
    assert build_criterion(settings, network, 640).anchors.shape == (2, 3, 2)


@pytest.mark.parametrize(
    ("chosen", "layers"),
    [
        pytest.param((), (), id="nothing"),
        pytest.param((0,), (), id="v7.0's default"),
        pytest.param((3,), (0, 1, 2), id="one number: so many first"),
        pytest.param((0, 1), (0, 1), id="two: exactly those"),
        pytest.param((7, 2, 7), (2, 7), id="in any order, once"),
    ],
)
def test_frozen_layers(chosen: tuple[int, ...], layers: tuple[int, ...]) -> None:
    network = Detector(read_model_config("yolov5n", nc=1))
    freeze(network, chosen)
    frozen = {name.split(".")[1] for name, p in network.named_parameters() if not p.requires_grad}
    assert frozen == {str(layer) for layer in layers}


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        ((3, 25), "layer 25, but the network has 25 layers, 0 to 24"),
        ((25,), "leaves no layer to train"),
    ],
)
def test_layers_that_cannot_be_frozen(chosen: tuple[int, ...], message: str) -> None:
    with pytest.raises(TaskError, match=message) as caught:
        freeze(Detector(read_model_config("yolov5n", nc=1)), chosen)
    assert caught.value.code == Code.CONFIG


def test_frozen_layers_and_their_statistics_do_not_move() -> None:
    """v7.0 lets the batch statistics of frozen layers run on: a defect, not ours."""
    layers = (1, 9)
    network = Detector(read_model_config("yolov5n", nc=1)).eval()
    freeze(network, layers)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    step = OptimizerStep(build_optimizer(network, TrainSettings(lr0=0.1, weight_decay=0.1)))
    for _ in range(2):
        set_train_mode(network)
        step.backward_and_step(sum(m.square().mean() for m in network(torch.rand(2, 3, 64, 64))))
    prefixes = tuple(f"model.{layer}." for layer in layers)
    moved = {key for key, value in network.state_dict().items() if not value.equal(before[key])}
    assert not {key for key in moved if key.startswith(prefixes)}
    others = {key for key in before if not key.startswith((*prefixes, "model.24."))}
    assert others - moved == set()


def test_augmentation_has_every_field_and_copy_paste_no_effect() -> None:
    values = {"mixup": 0.1, "mosaic9": 0.2, "degrees": 5, "albumentations": True}
    chosen = build_augmentation(TrainSettings(**values))
    assert {name: getattr(chosen, name) for name in values} == values
    assert build_augmentation(TrainSettings(**values, copy_paste=0.1)) == chosen


@pytest.mark.parametrize(
    ("change", "mosaic_epochs"),
    [
        pytest.param({}, 100, id="default"),
        pytest.param({"close_mosaic": 10, "epochs": 30}, 20, id="close"),
        pytest.param({"close_mosaic": 9, "epochs": 3}, 0, id="too many"),
        pytest.param({"rect": True}, 100, id="rect"),
        pytest.param({"quad": True}, 100, id="quad"),
        pytest.param({"image_weights": True, "rect": True}, 100, id="rect without effect"),
    ],
)
def test_batching(change: dict[str, Any], mosaic_epochs: int) -> None:
    weighted = "image_weights" in change
    expected = {name: name in change for name in ("quad", "image_weights")}
    assert build_batching(TrainSettings(**change)) == BatchingConfig(
        rect="rect" in change and not weighted, mosaic_epochs=mosaic_epochs, **expected
    )
