"""Parameter groups as recorded from v7.0; steps with accumulation and clipping."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from models.detector import Detector
from models.model_config import read_model_config
from settings.train import TrainSettings
from tests.conftest import DEVICES, needs_gpu
from training.optimizer import OptimizerStep, build_optimizer, parameter_groups
from training.schedule import Schedule, StepSettings

RECORDED = json.loads((Path(__file__).parent.parent / "golden" / "schedule.json").read_text())
KINDS = ["sgd", "adam", "adamw"]


def tiny_model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.Linear(4, 1))


def step_for(
    model: nn.Module, *, fused: bool = True, scaled: bool = False, **change: Any
) -> OptimizerStep:
    settings = TrainSettings(**{"lr0": 0.1, "momentum": 0.9, "weight_decay": 0.01} | change)
    optimizer = build_optimizer(model, settings)
    for group in optimizer.param_groups:
        group["fused"], group["foreach"] = fused, not fused
    return OptimizerStep(optimizer, scaled=scaled)


def snapshot(model: nn.Module) -> list[torch.Tensor]:
    return [parameter.detach().clone() for parameter in model.parameters()]


def same(one: list[torch.Tensor], other: list[torch.Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", ["yolov5n", "yolov5s"])
def test_recorded_groups(size: str, kind: str) -> None:
    """Numbers: tensors, elements and settings of v7.0's groups: biases, weights, norms."""
    names = {"sgd": "SGD", "adam": "Adam", "adamw": "AdamW"}
    recorded = RECORDED["param_groups"][f"{size}_{names[kind]}"]
    model = Detector(read_model_config(size))
    optimizer = build_optimizer(model, TrainSettings(optimizer=kind, weight_decay=5e-4))
    for group, wanted in zip(optimizer.param_groups, recorded, strict=True):
        assert len(group["params"]) == wanted["tensors"]
        assert sum(parameter.numel() for parameter in group["params"]) == wanted["elements"]
        for key in {"weight_decay", "momentum", "nesterov", "betas"} & set(wanted):
            found = list(group[key]) if key == "betas" else group[key]
            assert found == wanted[key], key


def test_every_trained_parameter_is_in_exactly_one_group_and_odd_biases_do_not_decay() -> None:
    """v7.0 decays `in_proj_bias`: a defect, not ours."""
    frozen = nn.Linear(2, 2).requires_grad_(False)
    model = nn.Sequential(nn.MultiheadAttention(4, 2), nn.BatchNorm1d(4), nn.Linear(4, 2), frozen)
    model.append(model[2])  # shared: counted once
    groups = parameter_groups(model, 0.5)
    assert [group["weight_decay"] for group in groups] == [0.0, 0.5, 0.0]
    found = [id(parameter) for group in groups for parameter in group["params"]]
    assert sorted(found) == sorted(id(one) for one in model.parameters() if one.requires_grad)
    biases, weights, norms = (group["params"] for group in groups)
    assert any(parameter is model[0].in_proj_bias for parameter in biases)
    assert all(parameter.ndim == 2 for parameter in weights)
    assert len(norms) == 1


def test_settings_reach_the_groups_and_leave_an_adams_beta() -> None:
    settings = StepSettings(0.3, 0.2, momentum=0.5, accumulate=3)
    sgd, adam = step_for(tiny_model()), step_for(tiny_model(), optimizer="adam")
    for optimizer_step in (sgd, adam):
        optimizer_step.set(settings)
        assert [group["lr"] for group in optimizer_step.optimizer.param_groups] == [0.3, 0.2, 0.2]
        assert optimizer_step.accumulate == 3
    assert {group["momentum"] for group in sgd.optimizer.param_groups} == {0.5}
    assert {group["betas"] for group in adam.optimizer.param_groups} == {(0.9, 0.999)}


@pytest.mark.parametrize("name", RECORDED["runs"])
def test_steps_happen_where_they_were_recorded(name: str) -> None:
    """Numbers: the iterations at which v7.0's loop stepped, and how often it had until then."""
    run = RECORDED["runs"][name]
    changed = {"epochs": run["epochs"], "batch_size": run["batch_size"], **run["hyp"]}
    schedule = Schedule(TrainSettings(**changed), run["nb"], cap_warmup=False)
    weight = nn.Parameter(torch.zeros(1))
    optimizer_step = OptimizerStep(
        torch.optim.SGD([{"params": [weight]}] + [{"params": []}] * 2, lr=0.0)
    )
    rows = {row[0]: row for row in run["rows"]}
    for iteration in range(run["epochs"] * run["nb"]):
        optimizer_step.set(schedule.at(iteration))
        stepped = optimizer_step.backward_and_step(weight.sum())
        if iteration in rows:
            assert (stepped, optimizer_step.steps) == (bool(rows[iteration][7]), rows[iteration][8])


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("kind", KINDS)
def test_accumulating_equals_one_large_batch(kind: str, device: str) -> None:
    inputs = torch.randn(6, 3, generator=torch.Generator().manual_seed(1)).to(device)
    whole, parts = tiny_model().to(device), tiny_model().to(device)
    at_once, in_parts = step_for(whole, optimizer=kind), step_for(parts, optimizer=kind)
    in_parts.accumulate = 3
    assert at_once.backward_and_step(whole(inputs).sum())
    results = [in_parts.backward_and_step(parts(pair).sum()) for pair in inputs.split(2)]
    assert results == [False, False, True]
    assert (at_once.steps, in_parts.steps, in_parts.pending) == (1, 1, 0)
    for one, other in zip(whole.parameters(), parts.parameters(), strict=True):
        torch.testing.assert_close(one, other)
        assert other.grad is None


@pytest.mark.parametrize("device", DEVICES)
def test_parts_that_a_batch_leaves_out_keep_their_pending_gradients(device: str) -> None:
    used, left_out = nn.Linear(3, 1).to(device), nn.Linear(3, 1).to(device)
    optimizer_step = step_for(nn.ModuleList([used, left_out]))
    optimizer_step.accumulate = 3
    inputs = torch.tensor([[1.0, 2.0, 3.0]]).to(device)
    optimizer_step.backward_and_step((used(inputs) + left_out(inputs)).sum())
    optimizer_step.backward_and_step(used(inputs).sum())
    assert used.weight.grad.tolist() == [[2.0, 4.0, 6.0]]
    assert left_out.weight.grad.tolist() == [[1.0, 2.0, 3.0]]


def test_first_step_is_plain_nesterov() -> None:
    """By hand: buffer = gradient, update = lr (gradient + momentum * buffer)."""
    model = nn.Linear(1, 1, bias=False)
    with torch.no_grad():
        model.weight.fill_(2.0)
    step_for(model, momentum=0.5, weight_decay=0.0).backward_and_step(model(torch.ones(1, 1)).sum())
    assert model.weight.item() == pytest.approx(2 - 0.1 * 1.5)


def test_large_gradients_are_clipped_together() -> None:
    model = nn.Linear(4, 1, bias=False)
    before = model.weight.detach().clone()
    optimizer_step = step_for(model, lr0=1.0, momentum=0.0, weight_decay=0.0)
    optimizer_step.backward_and_step(1000 * model(torch.ones(1, 4)).sum())
    assert (before - model.weight).norm().item() == pytest.approx(10, rel=1e-4)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("fused", [True, False], ids=["fused", "foreach"])
@pytest.mark.parametrize(("bad", "first"), [(float("nan"), 0), (float("inf"), 2)])
def test_broken_gradients_change_nothing(kind: str, fused: bool, bad: float, first: int) -> None:
    """A run with a broken batch ends where the same run without it does."""
    results = []
    inputs = torch.randn(4, 2, 3, generator=torch.Generator().manual_seed(2))
    for broken in (False, True):
        model = tiny_model()
        optimizer_step = step_for(model, optimizer=kind, fused=fused)
        for number, batch in enumerate(inputs):
            if broken and number == first:
                before = snapshot(model)
                optimizer_step.backward_and_step(model(batch * bad).sum())
                assert same(before, snapshot(model))
                assert all(parameter.grad is None for parameter in model.parameters())
            optimizer_step.backward_and_step(model(batch).square().sum())
        results.append(snapshot(model))
        assert optimizer_step.non_finite.tolist() == [broken, broken]
    assert same(*results)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("kind", KINDS)
def test_a_scaled_loss_changes_no_digit(kind: str, device: str) -> None:
    """Gradients are clipped as they are without the scale, and batches are added up."""
    inputs = 50 * torch.randn(8, 2, 3, generator=torch.Generator().manual_seed(4)).to(device)
    results = []
    for scaled in (False, True):
        model = tiny_model().to(device)
        optimizer_step = step_for(model, optimizer=kind, scaled=scaled)
        optimizer_step.accumulate = 2
        for batch in inputs:
            optimizer_step.backward_and_step(model(batch).square().sum())
        results.append(snapshot(model))
        assert optimizer_step.non_finite.tolist() == [0, 0]
    assert same(*results)


@pytest.mark.parametrize("fused", [True, False], ids=["fused", "foreach"])
def test_a_step_that_overflows_halves_the_scale_and_changes_nothing(fused: bool) -> None:
    model, inputs = tiny_model(), torch.ones(2, 3)
    optimizer_step = step_for(model, fused=fused, scaled=True)
    before = snapshot(model)
    assert optimizer_step.scale is not None
    assert optimizer_step.skipped is not None
    optimizer_step.scale.fill_(2.0**127)
    optimizer_step.backward_and_step(model(inputs).square().sum() * 1000)
    assert same(before, snapshot(model))
    assert (float(optimizer_step.skipped), float(optimizer_step.scale)) == (1, 2.0**126)
    assert optimizer_step.non_finite.tolist() == [0, 1]
    optimizer_step.scale.fill_(4)
    for _ in range(2000):
        optimizer_step.backward_and_step(model(inputs).square().mean())
    assert (float(optimizer_step.skipped), float(optimizer_step.scale)) == (0, 8)
    assert not same(before, snapshot(model))


@needs_gpu
@pytest.mark.parametrize("scaled", [False, True])
def test_on_a_gpu_the_host_never_waits(scaled: bool) -> None:
    model = tiny_model().cuda()
    optimizer_step, inputs = step_for(model, scaled=scaled), torch.ones(2, 3).cuda()
    optimizer_step.backward_and_step(model(inputs).sum())
    before = snapshot(model)
    torch.cuda.set_sync_debug_mode("error")
    try:
        optimizer_step.backward_and_step(model(inputs * float("nan")).sum())
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert same(before, snapshot(model))
    assert optimizer_step.non_finite.tolist() == [1, 1]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("fused", [True, False], ids=["fused", "foreach"])
@pytest.mark.parametrize("stop_at", [0, 1, 4], ids=["at-once", "gradients-wait", "after-a-step"])
@pytest.mark.parametrize("scaled", [False, True])
def test_going_on_from_a_state_is_exact(kind: str, fused: bool, stop_at: int, scaled: bool) -> None:
    """Weights in channels-last memory: the fused kernels pair their elements by address."""

    def model() -> nn.Module:
        torch.manual_seed(0)
        layers = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 2, 3))
        return layers.to(memory_format=torch.channels_last)

    batches = torch.randn(7, 2, 3, 6, 6, generator=torch.Generator().manual_seed(3))
    networks = through, first, second = model(), model(), model()
    steps = one, other, another = [
        step_for(n, optimizer=kind, fused=fused, scaled=scaled) for n in networks
    ]
    for optimizer_step in steps:
        optimizer_step.accumulate = 2
    for optimizer_step in (one, other):
        if optimizer_step.scale is not None:
            optimizer_step.scale.fill_(0.5)  # not the one that a training begins with
    for batch in batches:
        one.backward_and_step(through(batch).square().sum())
    for batch in batches[:stop_at]:
        other.backward_and_step(first(batch).square().sum())
    other.non_finite += 1
    second.load_state_dict(first.state_dict())
    stored = io.BytesIO()
    torch.save(other.state(), stored)
    stored.seek(0)
    another.load_state(torch.load(stored, weights_only=True))
    for batch in batches[stop_at:]:
        another.backward_and_step(second(batch).square().sum())
    assert same(snapshot(through), snapshot(second))
    assert (one.steps, one.pending) == (another.steps, another.pending) == (3, 1)
    assert one.state()["scale"] == another.state()["scale"] == ((0.5, 3) if scaled else None)
    assert another.non_finite.tolist() == [1, 1]
