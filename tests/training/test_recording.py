"""A recorded training step computes what it does operator by operator, to the last bit."""

from __future__ import annotations

import io
import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from data.dataset_index import DatasetIndex
from models.loss import LossParts
from tests.conftest import needs_real_gpu
from tests.training_example import make_job, small_network
from training import recording
from training.compiling import RECORDING_STEPS
from training.loop import train_one_epoch
from training.recording import RecordedStep
from training.setup import TrainState, prepare
from training.step import TrainingStep
from utils.cuda_graphs import CudaGraphs
from utils.progress import Progress

STEADY = {"warmup_momentum": 0.937}
"""A momentum that is constant from the first step on."""


class Again:
    """Stands in for a device's recorder: what it has recorded is done again on the same tensors."""

    def __init__(self) -> None:
        self.replays = 0

    def warm_up(self, work: Callable[[], object]) -> None:
        work()

    def record(self, work: Callable[[], object]) -> Callable[[], object]:
        def replay() -> None:
            self.replays += 1
            work()

        return replay


@pytest.fixture(scope="module")
def few(splits: Sequence[DatasetIndex]) -> list[DatasetIndex]:
    """Four steps an epoch."""
    return [splits[0].subset(range(16)), splits[1].subset(range(2))]


@pytest.fixture
def start(few: list[DatasetIndex], tmp_path: Path) -> Callable[..., TrainState]:
    """Prepare a training of a tiny network, long enough to be recorded."""

    def start(device: str = "cpu", **change: object) -> TrainState:
        settings = {"epochs": RECORDING_STEPS // 4, "compile": "false", **change}
        settings |= small_network(tmp_path)
        return prepare(replace(make_job(few, tmp_path, **settings), device=torch.device(device)))

    return start


def recorded(state: TrainState) -> tuple[TrainState, Again]:
    """Return a training on the CPU whose step is recorded by the stand-in."""
    assert isinstance(state.step, TrainingStep)
    recorder = Again()
    return replace(state, step=RecordedStep(state.step, recorder)), recorder


def results(state: TrainState, epochs: Sequence[int] = (0, 1, 2)) -> list[torch.Tensor]:
    """Train; return mean losses and all that has changed."""
    losses = [torch.tensor(train_one_epoch(state, epoch, Progress())) for epoch in epochs]
    optimizer: Any = state.optimizer_step.state()
    states = [one[name] for one in optimizer["optimizer"] for name in sorted(one)]
    networks = (state.network, state.ema.module)
    weights = [one for network in networks for one in network.state_dict().values()]
    return [*losses, *(one.detach().cpu() for one in (*weights, *states))]


def assert_same(one: list[torch.Tensor], other: list[torch.Tensor]) -> None:
    assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


CHANGES = [
    pytest.param({"nominal_batch_size": 8, **STEADY}, id="two batches a step"),
    pytest.param({"lr0": 0.001, "optimizer": "adamw", "freeze": "1"}, id="adamw, frozen"),
    pytest.param({"multi_scale": True}, id="multi-scale, momentum rises"),
    pytest.param({"quad": True, "schedule": "cosine", **STEADY}, id="quad"),
    pytest.param({"precision": "float16", **STEADY}, id="float16, scaled"),
]


@pytest.mark.parametrize("change", [CHANGES[0], CHANGES[2], CHANGES[3]])
def test_replayed_on_the_cpu(start: Callable[..., TrainState], change: dict[str, object]) -> None:
    """Targets are padded in both, as rows of zeros change the order of sums."""
    states = start(**change), start(**change)
    plain, other = (
        replace(one, step=replace(one.step, gradients=replace(one.step.gradients, padded=True)))
        for one in states
        if isinstance(one.step, TrainingStep)
    )
    other, recorder = recorded(other)
    assert_same(results(other), results(plain))
    assert recorder.replays


@pytest.mark.usefixtures("pretend_gpu")
@pytest.mark.parametrize("change", CHANGES)
def test_replayed_on_a_gpu(start: Callable[..., TrainState], change: dict[str, object]) -> None:
    """Whatever the recording took from the host, such as a rate, would stay what it was."""
    wanted = results(start("cuda:0", **change))
    state = start("cuda:0", compile="auto", **change)
    assert isinstance(state.step, RecordedStep)
    assert_same(results(state), wanted)


@needs_real_gpu
def test_replayed_on_a_real_gpu(start: Callable[..., TrainState]) -> None:
    """Not to the last bit: kernels add up in the order in which they come."""
    states = start("cuda:0", **STEADY), start("cuda:0", compile="auto", **STEADY)
    wanted, found = (results(state, [0, 1]) for state in states)
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-2, atol=1e-3)


def test_a_saved_state_is_recorded_anew(start: Callable[..., TrainState]) -> None:
    """A recording would write to the tensors that the saved ones have replaced."""
    (plain, _), (other, recorder) = (recorded(start(optimizer="adam")) for _ in range(2))
    wanted = results(plain)
    results(other, [0])
    before = recorder.replays
    stored = io.BytesIO()
    torch.save(other.optimizer_step.state(), stored)
    stored.seek(0)
    other.optimizer_step.load_state(torch.load(stored, weights_only=True))
    losses = results(other, [1, 2])
    assert_same(losses[2:], wanted[3:])
    assert recorder.replays > before > 0


def test_more_shapes_than_are_recorded(
    start: Callable[..., TrainState],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(recording, "MOST_SHAPES", 1)
    few, recorder = recorded(start(multi_scale=True, **STEADY))
    with caplog.at_level(logging.INFO):
        found = results(few)
    assert caplog.text.count("batches have more than 1 shapes") == 1
    monkeypatch.setattr(recording, "MOST_SHAPES", 0)
    none, without = recorded(start(multi_scale=True, **STEADY))
    for one, other in zip(found, results(none), strict=True):
        torch.testing.assert_close(one, other)
    assert recorder.replays > without.replays


@pytest.mark.usefixtures("pretend_gpu")
def test_what_cannot_be_recorded_goes_on_as_it_was(
    start: Callable[..., TrainState], caplog: pytest.LogCaptureFixture
) -> None:
    wanted = results(start("cuda:0", **STEADY))
    state = start("cuda:0", compile="auto", **STEADY)
    loss = state.step.gradients.criterion

    def waiting(*given: Any, **more: Any) -> LossParts:
        parts = loss(*given, **more)
        assert parts.box.item() > 0
        return parts

    gradients = replace(state.step.gradients, criterion=waiting)
    step = TrainingStep(gradients, state.network, state.ema)
    with caplog.at_level(logging.WARNING):
        found = results(replace(state, step=RecordedStep(step, CudaGraphs(gradients.device))))
    assert_same(found, wanted)
    (warning,) = (line for line in caplog.messages if "cannot be recorded" in line)
    assert "capturing" in warning
