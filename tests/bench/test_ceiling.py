"""A machine's rate is a number of operations over time, and a network's follows from its size."""

from __future__ import annotations

import pytest
import torch

from bench import ceiling
from bench.ceiling import PRECISIONS, main, matmul_rate, network_rate


@pytest.mark.parametrize("precision", PRECISIONS)
def test_the_rate_counts_two_operations_per_multiply_add(
    precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter(range(100))
    monkeypatch.setattr(ceiling.time, "perf_counter", lambda: float(next(clock)))
    # One product of [10, 10] a second.
    rate = matmul_rate(precision, device=torch.device("cpu"), side=10, seconds=5)
    assert rate == pytest.approx(2 * 10**3 / 1e9)


def test_a_networks_rate_by_hand() -> None:
    # 16 G on 640 x 640; 640 x 480 are three quarters of that, 10 images a second.
    assert network_rate(16, 10, 640 * 480, training=False) == pytest.approx(120)
    assert network_rate(16, 10, 640 * 640, training=True) == pytest.approx(480)


def test_the_command_prints_both(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(ceiling, "matmul_rate", lambda precision, device: 12.4)
    before = torch.get_num_threads()
    main(["--threads", "1"])
    torch.set_num_threads(before)
    assert capsys.readouterr().out == "float32: 12 GFLOP/s\nbfloat16: 12 GFLOP/s\n"
