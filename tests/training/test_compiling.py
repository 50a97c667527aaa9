"""The setting `compile`: what is decided and said, and that a compiled step computes the same."""

from __future__ import annotations

import functools
import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from data.dataset_index import DatasetIndex
from settings.parse import parse_settings
from settings.train import TrainSettings
from tests.training_example import make_job, run, small_network, tensors_of
from training import compiling
from training.checkpoints import SavedCheckpoint
from training.compiling import COMPILE_SECONDS, RECORDING_STEPS, SAVED_SECONDS, compiled, plan
from training.setup import prepare
from training.step import BatchGradients, TrainingStep
from utils.distributed import SINGLE_PROCESS, DistContext
from utils.errors import Code, TaskError

CPU, GPU = torch.device("cpu"), torch.device("cuda", 0)
MANY = round(COMPILE_SECONDS / SAVED_SECONDS / 16) + 1
"""Steps of 16 images of 640 pixels that pay for compiling."""


@pytest.fixture(scope="module")
def few(splits: Sequence[DatasetIndex]) -> list[DatasetIndex]:
    """Two steps an epoch."""
    return [splits[0].subset(range(8)), splits[1].subset(range(2))]


def settings_of(**change: object) -> TrainSettings:
    return parse_settings(TrainSettings, change)[0]


@pytest.mark.parametrize(
    ("change", "device", "steps", "decided", "why"),
    [
        ({}, CPU, MANY, "operator by operator", "on a CPU"),
        ({"compile": "True"}, CPU, 1, "compiled", "compile is true"),
        ({"compile": False}, GPU, MANY, "operator by operator", "compile is false"),
        ({"compile": True}, GPU, 1, "compiled and recorded as CUDA graphs", "compile is true"),
        ({}, GPU, RECORDING_STEPS - 1, "operator by operator", "99 steps are too few"),
        ({}, GPU, RECORDING_STEPS, "recorded as CUDA graphs", "100 steps are too few to pay for"),
        ({}, GPU, MANY - 2, "recorded as CUDA graphs", "too few to pay"),
        ({}, GPU, MANY, "compiled and recorded as CUDA graphs", f"{MANY} steps pay"),
        ({"img_size": 320}, GPU, MANY, "recorded as CUDA graphs", "too few to pay"),
        ({"batch_size": 64, "img_size": 320}, GPU, MANY, "compiled and recorded", "steps pay"),
        ({"multi_scale": True}, GPU, MANY, "recorded as CUDA graphs", "many shapes"),
    ],
    ids=str,
)
def test_what_is_decided_and_why(
    change: dict[str, object],
    device: torch.device,
    steps: int,
    decided: str,
    why: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(compiling, "missing_tool", lambda device: "")
    chosen = str(plan(settings_of(**change), device, SINGLE_PROCESS, steps))
    assert chosen.startswith(decided)
    assert why in chosen


def test_several_processes_are_not_recorded() -> None:
    chosen = plan(settings_of(compile=True), GPU, DistContext(0, 2, 0, 2), MANY)
    assert str(chosen) == "operator by operator (several processes train together)"


@pytest.mark.parametrize(
    ("device", "variable", "missing"),
    [(CPU, "CXX", r"compiler \(g\+\+ or clang\+\+"), (GPU, "CC", r"compiler \(gcc or clang")],
)
def test_without_a_compiler(
    device: torch.device, variable: str, missing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`true` says what is missing, `auto` goes on."""
    monkeypatch.setenv(variable, "/nowhere/compiler")
    with pytest.raises(TaskError, match=f"{missing}.*install it, or set compile to auto") as error:
        plan(settings_of(compile=True), device, SINGLE_PROCESS, MANY)
    assert error.value.code == Code.CONFIG
    if device == GPU:
        chosen = plan(settings_of(), device, SINGLE_PROCESS, MANY)
        assert (chosen.compiled, chosen.recorded) == (False, True)
        assert "is missing" in chosen.reason


def gradients_of(gradients: BatchGradients, images: Tensor, targets: Tensor) -> list[Tensor]:
    """Return losses and gradients of a batch."""
    gradients.optimizer_step.optimizer.zero_grad()
    losses = gradients(images, targets, (64, 64))
    groups = gradients.optimizer_step.optimizer.param_groups
    return [losses, *(one.grad for group in groups for one in group["params"])]


def test_traced_is_equal(few: list[DatasetIndex], tmp_path: Path) -> None:
    """Losses and gradients of what the compiler is given, for two numbers of targets."""
    state = prepare(make_job(few, tmp_path, compile=False, **small_network(tmp_path)))
    assert isinstance(state.step, TrainingStep)
    plain = state.step.gradients
    traced = compiled(plain, "aot_eager")
    state.loader.set_epoch(0)
    batch = next(iter(state.loader))
    for targets in (batch.targets, batch.targets[:0]):
        wanted = gradients_of(plain, batch.images, targets)
        found = gradients_of(traced, batch.images, targets)
        for one, other in zip(found, wanted, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("backend", ["aot_eager", pytest.param("inductor", marks=pytest.mark.slow)])
def test_a_compiled_training_ends_as_a_plain_one(
    few: list[DatasetIndex],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    backend: str,
) -> None:
    """Two epochs, resumed after the first: plain files, weights within a thousandth."""
    monkeypatch.setattr(compiling, "compiled", functools.partial(compiled, backend=backend))
    change = {"precision": "float32", "onnx": True, **small_network(tmp_path)}
    names = ("plain", "whole", "parts")
    plain, whole, parts = (
        make_job(few, tmp_path / name, compile=name != "plain", **change) for name in names
    )
    run(plain)
    with caplog.at_level(logging.INFO):
        best = run(whole)
    assert "training step: compiled (compile is true)" in caplog.text
    assert [path.suffix for path in best.files] == [".pt", ".onnx"]

    def stop(saved: SavedCheckpoint) -> None:
        if saved.epoch == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(replace(parts, on_saved=stop))
    with caplog.at_level(logging.INFO):
        run(parts)
    assert "going on after epoch 1 of 2" in caplog.text
    assert "cannot compile" not in caplog.text
    wanted, found, resumed = (tensors_of(tmp_path / name) for name in names)
    assert list(found) == list(wanted)
    for name, one in found.items():
        assert torch.equal(one, resumed[name]), name
        torch.testing.assert_close(one, wanted[name], rtol=1e-3, atol=1e-4)


def test_what_cannot_be_compiled_goes_on_as_it_was(
    few: list[DatasetIndex], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(graph: object, inputs: object) -> None:
        raise RuntimeError("no such backend")

    state = prepare(make_job(few, tmp_path, compile=False, **small_network(tmp_path)))
    assert isinstance(state.step, TrainingStep)
    plain = replace(state.step.gradients, padded=True)
    images, targets = torch.zeros(2, 3, 64, 64, dtype=torch.uint8), torch.zeros(0, 6)
    wanted = gradients_of(plain, images, targets)
    found = gradients_of(compiled(plain, broken), images, targets)
    assert all(torch.equal(a, b) for a, b in zip(found[:1], wanted[:1], strict=True))
    warnings = [line for line in caplog.messages if "cannot compile" in line]
    assert len(warnings) == 2, "network and loss"
