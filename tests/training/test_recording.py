"""A recorded training step computes what it does operator by operator, to the last bit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from data.dataset_index import DatasetIndex
from tests.conftest import needs_gpu
from tests.training_example import make_job
from training.compiling import RECORDING_STEPS
from training.loop import train_one_epoch
from training.recording import RecordedStep
from training.setup import TrainState, prepare
from training.step import TrainingStep
from utils.progress import Progress

TINY = {
    "nc": 3,
    "depth_multiple": 1.0,
    "width_multiple": 0.25,
    "anchors": [[10, 13, 16, 30], [30, 61, 62, 45]],
    "backbone": [
        [-1, 1, "Conv", [32, 3, 4]],
        [-1, 1, "C3", [32]],
        [-1, 1, "Conv", [64, 3, 2]],
    ],
    "head": [[-1, 1, "Conv", [64, 3, 2]], [[2, 3], 1, "Detect", ["nc", "anchors"]]],
}
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
        model = tmp_path / "tiny.yaml"
        model.write_text(yaml.safe_dump(TINY))
        settings = {"model": str(model), "img_size": 64, "epochs": RECORDING_STEPS // 4}
        settings |= {"noautoanchor": True, "compile": "false", **change}
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


@needs_gpu
@pytest.mark.parametrize("change", CHANGES)
def test_replayed_on_a_gpu(start: Callable[..., TrainState], change: dict[str, object]) -> None:
    """Whatever the recording took from the host, such as a rate, would stay what it was."""
    wanted = results(start("cuda:0", **change))
    state = start("cuda:0", compile="auto", **change)
    assert isinstance(state.step, RecordedStep)
    assert_same(results(state), wanted)
