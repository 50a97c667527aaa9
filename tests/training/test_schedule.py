"""The schedule against recorded trainings of v7.0, and where ours differs; early stopping."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from training.schedule import (
    EarlyStopping,
    Schedule,
    batches_per_step,
    learning_rate_factor,
    scaled_weight_decay,
)

GOLDEN = Path(__file__).parent.parent / "golden"
RECORDED = json.loads((GOLDEN / "schedule.json").read_text())
EXACT = {"rel": 1e-12, "abs": 1e-12}


def official(run: dict) -> Schedule:
    return Schedule(
        epochs=run["epochs"],
        batches_per_epoch=run["nb"],
        batch_size=run["batch_size"],
        kind="cosine" if run["cos_lr"] else "linear",
        nominal_batch_size=run["nbs"],
        lag=True,
        cap_warmup=False,
        **{k: v for k, v in run["hyp"].items() if k != "weight_decay"},
    )


def check_run(run: dict) -> None:
    schedule = official(run)
    assert schedule.warmup_iterations == run["nw"]
    for iteration, _, bias, weight, norm, momentum, accumulate, _, _ in run["rows"]:
        got = schedule.at(iteration)
        rates = (got.bias_lr, got.weight_lr, got.norm_lr)
        assert rates == pytest.approx((bias, weight, norm), **EXACT), iteration
        assert got.accumulate == accumulate, iteration
        if run["optimizer"] == "SGD":  # the column holds an Adam's unchanged beta
            assert got.momentum == pytest.approx(momentum, **EXACT), iteration
    decay = scaled_weight_decay(run["hyp"]["weight_decay"], run["batch_size"], run["nbs"])
    assert decay == pytest.approx(run["weight_decay_scaled"], **EXACT)


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
    for epoch, factor in RECORDED["cosine_factor_lrf0.01_epochs300"].items():
        assert learning_rate_factor(int(epoch), 300, 0.01, "cosine") == pytest.approx(
            factor, **EXACT
        )


def test_rates_do_not_lag_an_epoch() -> None:
    """v7.0 uses the first epoch's rate twice and never the last one's: a defect, not ours."""
    schedule = Schedule(epochs=10, batches_per_epoch=200, batch_size=64, warmup_epochs=0)
    factors = [schedule.at(200 * epoch + 150).weight_lr / 0.01 for epoch in range(10)]
    assert factors == pytest.approx([1 - 0.099 * epoch for epoch in range(10)])
    lagging = Schedule(epochs=10, batches_per_epoch=200, batch_size=64, warmup_epochs=0, lag=True)
    factors = [lagging.at(200 * epoch + 150).weight_lr / 0.01 for epoch in range(10)]
    assert factors == pytest.approx([1.0, *(1 - 0.099 * epoch for epoch in range(9))])


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
    schedule = Schedule(epochs=epochs, batches_per_epoch=batches, batch_size=16)
    assert schedule.warmup_iterations == wanted
    reached = schedule.at(wanted)
    assert reached.bias_lr == reached.weight_lr == reached.norm_lr > 0
    assert (reached.momentum, reached.accumulate) == (0.937, 4)


@pytest.mark.parametrize(
    ("batch_size", "batches"),
    [(1, 64), (5, 13), (16, 4), (48, 1), (64, 1), (128, 1), (25, 3), (128 // 3, 2)],
)
def test_batches_per_step(batch_size: int, batches: int) -> None:
    assert batches_per_step(batch_size) == batches


def test_every_iteration_has_settings_that_make_sense() -> None:
    schedule = Schedule(epochs=3, batches_per_epoch=7, batch_size=5, kind="cosine")
    for iteration in range(21):
        settings = schedule.at(iteration)
        assert settings.accumulate >= 1
        assert 0.8 <= settings.momentum <= 0.937
        assert 0 <= settings.weight_lr <= settings.bias_lr <= 0.1


@pytest.mark.parametrize(
    ("epoch", "best", "patience", "stops"),
    [
        pytest.param(0, 0, 1, False, id="the first epoch is the best"),
        pytest.param(2, 0, 2, True, id="two without improvement"),
        pytest.param(2, 1, 2, False, id="one without improvement"),
        pytest.param(900, 0, 0, False, id="0 never stops"),
    ],
)
def test_early_stopping(epoch: int, best: int, patience: int, stops: bool) -> None:
    assert EarlyStopping(patience).should_stop(epoch, best) is stops


def test_early_stopping_is_logged_with_epochs_from_one() -> None:
    assert EarlyStopping(10).message(29, 19) == (
        "early stopping after epoch 30: no improvement for 10 epochs (best epoch 20, patience 10)"
    )
