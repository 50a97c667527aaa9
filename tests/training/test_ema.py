"""The EMA averages weights and statistics, and copies everything else."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from training.ema import ModelEMA

RECORDED = json.loads((Path(__file__).parent.parent / "golden" / "schedule.json").read_text())


class Anchored(nn.Module):
    """A layer with everything an average meets: weights, statistics, a counter, a constant."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(2, 3)
        self.norm = nn.BatchNorm1d(3)
        self.register_buffer("anchors", torch.tensor([1.0, 2.0]))

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.norm(self.linear(inputs))


@pytest.mark.parametrize("updates", RECORDED["ema_decay"])
def test_update_is_the_weighted_mean_but_for_constants_and_counters(updates: str) -> None:
    """Numbers: the decay v7.0 uses at its n-th update. It averages the anchors too, which then lag
    behind: a defect, not ours.
    """
    model, decay = Anchored().double(), RECORDED["ema_decay"][updates]
    average = ModelEMA(model)
    names = [n for n in model.state_dict() if "anchors" not in n and "num_batches" not in n]
    before = {name: model.state_dict()[name].clone() for name in names}
    for value in model.state_dict().values():
        value += 10_000
    average.updates = int(updates) - 1
    average.update(model)
    assert average.updates == int(updates)
    assert average.module.anchors.tolist() == [10001.0, 10002.0]
    assert average.module.norm.num_batches_tracked == 10000
    for name in names:
        wanted = decay * before[name] + (1 - decay) * model.state_dict()[name]
        torch.testing.assert_close(
            average.module.state_dict()[name], wanted, rtol=1e-12, atol=1e-11
        )


def test_a_step_without_effect_leaves_the_average() -> None:
    model, weights = Anchored(), [0.0, 1.0]
    taken, skipped = ModelEMA(model), ModelEMA(model)
    before = skipped.module.linear.weight.clone()
    with torch.no_grad():
        model.linear.weight += 1
    for average, one in zip((taken, skipped), weights, strict=True):
        average.update(model, torch.tensor(one))
    assert torch.equal(skipped.module.linear.weight, before)
    plain = ModelEMA(model)
    plain.module.linear.weight.copy_(before)
    plain.update(model)
    torch.testing.assert_close(taken.module.linear.weight, plain.module.linear.weight)


def test_the_copy_is_apart_and_the_model_untouched() -> None:
    model = Anchored().train()
    average = ModelEMA(model)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    average.update(model)
    assert model.training
    assert not average.module.training
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert not any(parameter.requires_grad for parameter in average.module.parameters())
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name])
        assert value.data_ptr() != average.module.state_dict()[name].data_ptr()
