from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from tests.utils.test_distributed import launch
from training.sync_batch_norm import BatchNormOfAll, normalise_over_all


@pytest.mark.parametrize(
    ("device", "kind"), [("cpu", BatchNormOfAll), ("cuda", nn.SyncBatchNorm)], ids=["cpu", "cuda"]
)
def test_every_norm_is_replaced_and_keeps_what_it_knows(device: str, kind: type) -> None:
    norm = nn.BatchNorm2d(2, eps=1e-3, momentum=0.03)
    nn.init.uniform_(norm.weight)
    network = nn.Sequential(nn.Sequential(nn.Conv2d(1, 2, 1), norm))
    before = dict(network.state_dict())
    normalise_over_all(network, torch.device(device))
    fresh = network[0][1]
    assert type(fresh) is kind
    assert (fresh.eps, fresh.momentum) == (1e-3, 0.03)
    assert fresh.weight is norm.weight
    after = network.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(after[name], before[name]) for name in before)


def test_in_evaluation_it_is_a_plain_batch_norm() -> None:
    plain = nn.Sequential(nn.BatchNorm2d(2)).eval()
    images = torch.randn(2, 2, 3, 3)
    expected = plain(images)
    normalise_over_all(plain, torch.device("cpu"))
    assert torch.equal(plain(images), expected)


@pytest.mark.slow
def test_two_halves_are_normalised_as_the_whole(tmp_path: Path) -> None:
    images, factors = torch.randn(8, 3, 5, 4) * 3 + 7, torch.randn(8, 3, 5, 4)
    torch.save(images, tmp_path / "images.pt")
    torch.save(factors, tmp_path / "factors.pt")
    launch(2, "-m", "tests.two_processes", "normalise", tmp_path)
    plain = nn.Sequential(nn.BatchNorm2d(3))
    whole = images.clone().requires_grad_()
    out = plain(whole)
    (out * factors).sum().backward()
    assert whole.grad is not None
    for rank in (0, 1):
        half, gradient, state = torch.load(tmp_path / f"{rank}.pt")
        torch.testing.assert_close(half, out[rank::2], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(gradient, whole.grad[rank::2], rtol=1e-3, atol=1e-5)
        for name, expected in plain.state_dict().items():
            torch.testing.assert_close(state[name], expected, rtol=1e-4, atol=1e-5)
