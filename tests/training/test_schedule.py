"""The schedule against recorded trainings of v7.0, and where ours differs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from settings.parse import parse_settings, read_hyp
from settings.train import TrainSettings
from training.schedule import Schedule, batches_per_step, scaled_weight_decay
from training.setup import build_schedule

GOLDEN = Path(__file__).parent.parent / "golden"
RECORDED = json.loads((GOLDEN / "schedule.json").read_text())
EXACT = {"rel": 1e-12, "abs": 1e-12}


def check_run(run: dict) -> None:
    settings = TrainSettings(
        epochs=run["epochs"],
        batch_size=run["batch_size"],
        schedule="cosine" if run["cos_lr"] else "linear",
        nominal_batch_size=run["nbs"],
        **run["hyp"],
    )
    schedule = Schedule(settings, run["nb"], lag=True, cap_warmup=False)
    assert schedule.warmup_iterations == run["nw"]
    for iteration, _, bias, weight, norm, momentum, accumulate, _, _ in run["rows"]:
        got = schedule.at(iteration)
        rates = (got.bias_lr, got.lr, got.lr)
        assert rates == pytest.approx((bias, weight, norm), **EXACT), iteration
        assert got.accumulate == accumulate, iteration
        if run["optimizer"] == "SGD":  # the column holds an Adam's unchanged beta
            assert got.momentum == pytest.approx(momentum, **EXACT), iteration
    assert scaled_weight_decay(settings) == pytest.approx(run["weight_decay_scaled"], **EXACT)


@pytest.mark.parametrize("name", RECORDED["runs"])
def test_recorded_runs(name: str) -> None:
    """Numbers: values seen in v7.0's training loop, with the two defects switched on."""
    check_run(RECORDED["runs"][name])


def test_all_rows_of_the_recorded_runs(shared: Path) -> None:
    """Numbers: as above, every iteration."""
    runs = json.loads((shared / "golden" / "schedule.json").read_text())["runs"]
    for run in runs.values():
        check_run(run)


def test_recorded_cosine() -> None:
    """Numbers: v7.0's factor for a final share of 0.01 after 300 epochs."""
    schedule = Schedule(TrainSettings(epochs=300, schedule="cosine", lr0=1.0, lrf=0.01), 1)
    for epoch, factor in RECORDED["cosine_factor_lrf0.01_epochs300"].items():
        assert schedule.learning_rate(int(epoch)) == pytest.approx(factor, **EXACT)


@pytest.mark.parametrize("lag", [False, True])
def test_rates_do_not_lag_an_epoch(lag: bool) -> None:
    """v7.0 uses the first epoch's rate twice and never the last one's: a defect, not ours."""
    schedule = Schedule(TrainSettings(epochs=10, warmup_epochs=0), 200, lag=lag)
    rates = [schedule.at(200 * epoch + 150).lr for epoch in range(10)]
    expected = [0.01 * (1 - 0.099 * epoch) for epoch in range(10)]
    assert rates == pytest.approx([0.01, *expected[:-1]] if lag else expected)


@pytest.mark.parametrize(
    ("epochs", "batches", "wanted"),
    [
        pytest.param(100, 50, 150, id="three-epochs"),
        pytest.param(100, 10, 100, id="at-least-a-hundred"),
        pytest.param(4, 10, 20, id="at-most-half-of-the-run"),
        pytest.param(1, 1, 0, id="one-iteration"),
    ],
)
def test_warmup_ends_within_the_run(epochs: int, batches: int, wanted: int) -> None:
    """v7.0 may warm up beyond the end of a short run: a defect, not ours."""
    schedule = Schedule(TrainSettings(epochs=epochs), batches)
    assert schedule.warmup_iterations == wanted
    reached = schedule.at(wanted)
    assert reached.bias_lr == reached.lr > 0
    assert (reached.momentum, reached.accumulate) == (0.937, 4)


@pytest.mark.parametrize(
    ("batch_size", "batches"),
    [(1, 64), (5, 13), (16, 4), (48, 1), (64, 1), (128, 1), (25, 3), (128 // 3, 2)],
)
def test_batches_per_step(batch_size: int, batches: int) -> None:
    assert batches_per_step(TrainSettings(batch_size=batch_size)) == batches


@pytest.mark.parametrize(
    ("epochs", "batches", "hyp", "told"),
    [
        pytest.param(100, 10, {}, "250 optimiser steps of 4 batches each are few", id="few"),
        pytest.param(300, 10, {}, "", id="many"),
        pytest.param(100, 10, read_hyp("small"), "", id="the set"),
        pytest.param(10, 10, {}, "warm-up: 50 iterations instead of 3 epochs", id="warm-up"),
    ],
)
def test_what_the_log_says_of_a_short_training(
    epochs: int, batches: int, hyp: dict, told: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    settings, _ = parse_settings(TrainSettings, hyp, {"epochs": epochs})
    schedule = build_schedule(settings, batches, slowed=1.0)
    assert schedule == Schedule(settings, batches)
    assert told in caplog.text
    assert ("hyp: small" in caplog.text) == (batches_per_step(settings) > 1 and epochs < 300)
