"""Frozen layers: which are meant, and that nothing of them moves, statistics included."""

from __future__ import annotations

import pytest
import torch

from models.detector import Detector
from models.model_config import read_model_config
from training.freezing import freeze, frozen_layers, training_mode
from training.optimizer import OptimizerStep, build_optimizer
from utils.errors import Code, TaskError


@pytest.mark.parametrize(
    ("chosen", "layers"),
    [
        pytest.param((), (), id="nothing"),
        pytest.param((0,), (), id="v7.0's default"),
        pytest.param((3,), (0, 1, 2), id="one number: so many first"),
        pytest.param((24,), tuple(range(24)), id="all but the head"),
        pytest.param((0, 1), (0, 1), id="two: exactly those"),
        pytest.param((7, 2, 7), (2, 7), id="in any order, once"),
    ],
)
def test_which_layers_are_meant(chosen: tuple[int, ...], layers: tuple[int, ...]) -> None:
    assert frozen_layers(chosen, 25) == layers


@pytest.mark.parametrize("chosen", [(26,), (3, 25)])
def test_a_layer_that_is_not_there_is_refused(chosen: tuple[int, ...]) -> None:
    with pytest.raises(TaskError, match="layer 25, but the network has 25 layers, 0 to 24") as told:
        frozen_layers(chosen, 25)
    assert told.value.code == Code.CONFIG


def test_freezing_everything_is_refused() -> None:
    network = Detector(read_model_config("yolov5n", nc=1))
    with pytest.raises(TaskError, match="leaves no layer to train"):
        freeze(network, range(len(network.model)))


@pytest.mark.parametrize("layers", [(0, 1, 2), (9,)], ids=["the first three", "one in the middle"])
def test_nothing_of_a_frozen_layer_moves(layers: tuple[int, ...]) -> None:
    """v7.0 lets the batch statistics of frozen layers run on: a defect, not ours."""
    network = Detector(read_model_config("yolov5n", nc=1))
    freeze(network, layers)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    stepper = OptimizerStep(build_optimizer(network, lr=0.1, momentum=0.9, weight_decay=0.1))
    for _ in range(2):
        training_mode(network, layers)
        stepper.backward_and_step(sum(m.square().mean() for m in network(torch.rand(2, 3, 64, 64))))
    prefixes = tuple(f"model.{layer}." for layer in layers)
    moved = {key for key, value in network.state_dict().items() if not value.equal(before[key])}
    assert not {key for key in moved if key.startswith(prefixes)}
    others = {key for key in before if not key.startswith((*prefixes, "model.24."))}
    assert others - moved == set()


def test_without_frozen_layers_all_of_it_trains() -> None:
    network = Detector(read_model_config("yolov5n", nc=1)).eval()
    training_mode(network, ())
    assert all(module.training for module in network.modules())
