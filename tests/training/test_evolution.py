"""The search for hyper-parameters: v7.0's limits, trials, and the search on a cheap objective."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path

import pytest
import yaml

from settings.parse import parse_settings
from settings.train import TrainSettings
from training.evolution import (
    LIMITS,
    BestTrial,
    Interval,
    search,
    search_space,
    starting_point,
    trial_settings,
)
from utils.errors import Code, TaskError

# The limits of v7.0's evolution, without the keys whose gain is 0.
OFFICIAL = """lr0 1e-5 0.1; lrf .01 1; momentum .6 .98; weight_decay 0 .001; warmup_epochs 0 5;
warmup_momentum 0 .95; warmup_bias_lr 0 .2; box .02 .2; cls .2 4; cls_pw .5 2; obj .2 4;
obj_pw .5 2; anchor_t 2 8; anchors 2 10; hsv_h 0 .1; hsv_s 0 .9; hsv_v 0 .9; degrees 0 45;
translate 0 .9; scale 0 .9; shear 0 10; flipud 0 1; mosaic 0 1; mixup 0 1"""
SPACE = {
    "box": Interval(0.02, 0.2),
    "anchors": Interval(2, 10, integer=True),
    "lr0": Interval(1e-5, 0.1, log=True),
}
START = {"box": 0.05, "anchors": 3, "lr0": 0.01}


def test_the_limits_are_those_of_v7() -> None:
    rows = [row.split() for row in OFFICIAL.split(";")]
    expected = {name: (float(least), float(most)) for name, least, most in rows}
    assert {name: (i.min, i.max) for name, i in LIMITS.items()} == expected


def test_every_name_is_a_setting_within_its_limits() -> None:
    known = {item.name: item.metadata["spec"] for item in fields(TrainSettings)}
    for name, interval in LIMITS.items():
        assert known[name].min <= interval.min
        assert interval.max <= known[name].max


def test_noautoanchor_keeps_the_anchors() -> None:
    assert set(search_space(TrainSettings())) == set(LIMITS)
    assert set(search_space(TrainSettings(noautoanchor=True))) == set(LIMITS) - {"anchors"}


@pytest.mark.parametrize(
    ("values", "name", "start"),
    [
        pytest.param({}, "lr0", 0.01, id="the setting"),
        pytest.param({}, "anchors", 3, id="v7.0's anchors"),
        pytest.param({"weight_decay": 0.5}, "weight_decay", 0.001, id="clipped"),
        pytest.param({"anchors": 1}, "anchors", 2, id="clipped from below"),
    ],
)
def test_starting_point(values: dict[str, object], name: str, start: float) -> None:
    settings, _ = parse_settings(TrainSettings, values)
    assert starting_point(settings, search_space(settings))[name] == start


def test_a_trial_changes_its_values_and_skips_what_takes_time() -> None:
    changed = trial_settings(TrainSettings(epochs=3, box=0.1), {"lr0": 0.02, "anchors": 4})
    assert (changed.lr0, changed.anchors, changed.plots, changed.onnx) == (0.02, 4, False, False)
    assert (changed.noval, changed.nosave) == (True, True)
    assert (changed.epochs, changed.box) == (3, 0.1)


class Objective:
    """Fitness is the box gain; remembers the trials."""

    def __init__(self, error: TaskError | None = None) -> None:
        self.trials: list[tuple[int, dict[str, float]]] = []
        self.error = error

    def __call__(self, values: Mapping[str, float], number: int) -> float:
        self.trials.append((number, dict(values)))
        assert all(SPACE[name].min <= value <= SPACE[name].max for name, value in values.items())
        assert isinstance(values["anchors"], int)
        if self.error is not None:
            raise self.error
        return values["box"]


def run(folder: Path, trials: int, objective: Objective) -> BestTrial:
    pytest.importorskip("optuna")
    return search(objective, folder, trials=trials, space=SPACE, start=START)


def test_a_search_is_resumed(tmp_path: Path) -> None:
    first, second, third = Objective(), Objective(), Objective()
    best = run(tmp_path, 2, first)
    assert best.trials == 2
    assert first.trials[0] == (0, START)
    assert best.fitness == max(values["box"] for _, values in first.trials)
    assert (tmp_path / "importance.png").read_bytes().startswith(b"\x89PNG")
    best = run(tmp_path, 4, second)
    trials = [*first.trials, *second.trials]
    assert [number for number, _ in trials] == [0, 1, 2, 3]
    assert len({values["box"] for _, values in trials}) == 4
    assert best.fitness == max(values["box"] for _, values in trials)
    assert dict(trials)[best.number]["box"] == best.fitness
    rows = (tmp_path / "evolve.csv").read_text().splitlines()
    assert rows[0] == "trial,fitness,box,anchors,lr0"
    assert len(rows) == 5
    assert run(tmp_path, 4, third).trials == 4
    assert third.trials == []
    # The best set is a file that `hyp` can name.
    path, values = tmp_path / "hyp_evolve.yaml", dict(trials)[best.number]
    assert yaml.safe_load(path.read_text()) == pytest.approx(values)
    settings, warnings = parse_settings(TrainSettings, {"hyp": str(path)})
    assert warnings == []
    assert settings.box == pytest.approx(values["box"])
    assert settings.anchors == values["anchors"]


def test_a_loss_that_is_not_finite_has_fitness_0(tmp_path: Path) -> None:
    best = run(tmp_path, 2, Objective(TaskError(Code.NOT_A_NUMBER, "the loss was not a number")))
    assert (best.fitness, best.trials) == (0.0, 2)


def test_another_error_ends_the_search_and_loses_nothing(tmp_path: Path) -> None:
    run(tmp_path, 1, Objective())
    with pytest.raises(TaskError, match="no memory"):
        run(tmp_path, 3, Objective(TaskError(Code.OUT_OF_MEMORY, "no memory")))
    assert len((tmp_path / "evolve.csv").read_text().splitlines()) == 2
    assert run(tmp_path, 3, Objective()).trials == 3


def test_without_optuna_a_search_ends_in_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(TaskError, match=r"needs the package optuna.*install optuna"):
        search(Objective(), tmp_path / "a", trials=1, space=SPACE, start=START)
    assert not (tmp_path / "a").exists()
