"""The search for hyper-parameters, on an objective that costs nothing."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from settings.parse import parse_settings
from settings.train import TrainSettings
from training.evolution import Found, search
from training.search_space import Interval
from utils.errors import Code, TaskError

SPACE = {"box": Interval(0.02, 0.2), "anchors": Interval(2, 10, whole=True)}
START = {"box": 0.05, "anchors": 3}


class Stub:
    """Fitness is the box gain; remembers what it was asked."""

    def __init__(self, error: TaskError | None = None) -> None:
        self.asked: list[tuple[int, dict[str, float]]] = []
        self.error = error

    def __call__(self, values: Mapping[str, float], number: int) -> float:
        self.asked.append((number, dict(values)))
        if self.error is not None:
            raise self.error
        return values["box"]


def run(folder: Path, trials: int, stub: Stub) -> Found:
    pytest.importorskip("optuna")
    return search(stub, folder, trials=trials, space=SPACE, start=START)


def test_two_trials_and_two_more(tmp_path: Path) -> None:
    first, second = Stub(), Stub()
    found = run(tmp_path, 2, first)
    assert found.trials == 2
    assert first.asked[0] == (0, START)
    assert found.fitness == max(values["box"] for _, values in first.asked)
    assert (tmp_path / "importance.png").read_bytes().startswith(b"\x89PNG")
    found = run(tmp_path, 4, second)
    assert [number for number, _ in (*first.asked, *second.asked)] == [0, 1, 2, 3]
    assert len({values["box"] for _, values in (*first.asked, *second.asked)}) == 4
    everything = {number: values["box"] for number, values in (*first.asked, *second.asked)}
    assert found.fitness == max(everything.values())
    assert everything[found.number] == found.fitness
    rows = (tmp_path / "evolve.csv").read_text().splitlines()
    assert rows[0] == "trial,fitness,box,anchors"
    assert len(rows) == 5


def test_nothing_is_tried_when_all_is_done(tmp_path: Path) -> None:
    run(tmp_path, 2, Stub())
    stub = Stub()
    assert run(tmp_path, 2, stub).trials == 2
    assert stub.asked == []


def test_the_best_set_is_one_that_hyp_can_name(tmp_path: Path) -> None:
    stub = Stub()
    found = run(tmp_path, 3, stub)
    path = tmp_path / "hyp_evolve.yaml"
    values = dict(stub.asked)[found.number]
    assert yaml.safe_load(path.read_text()) == pytest.approx(values)
    settings, warnings = parse_settings(TrainSettings, {"hyp": str(path)})
    assert warnings == []
    assert settings.box == pytest.approx(values["box"])
    assert settings.anchors == values["anchors"]


def test_a_loss_that_is_no_number_counts_nothing(tmp_path: Path) -> None:
    found = run(tmp_path, 2, Stub(TaskError(Code.NOT_A_NUMBER, "the loss was not a number")))
    assert (found.fitness, found.trials) == (0.0, 2)


def test_another_error_ends_the_search_and_loses_nothing(tmp_path: Path) -> None:
    run(tmp_path, 1, Stub())
    with pytest.raises(TaskError, match="no memory"):
        run(tmp_path, 3, Stub(TaskError(Code.OUT_OF_MEMORY, "no memory")))
    assert len((tmp_path / "evolve.csv").read_text().splitlines()) == 2
    assert run(tmp_path, 3, Stub()).trials == 3


def test_the_values_keep_to_the_intervals(tmp_path: Path) -> None:
    pytest.importorskip("optuna")
    stub = Stub()
    space = {**SPACE, "lr0": Interval(1e-5, 0.1, by_factor=True)}
    search(stub, tmp_path, trials=12, space=space, start={**START, "lr0": 0.01})
    for _, values in stub.asked:
        assert all(space[name].least <= value <= space[name].most for name, value in values.items())
        assert isinstance(values["anchors"], int)


def test_a_missing_package_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.import_module

    def missing(name: str, *rest: Any) -> Any:
        if name == "optuna":
            raise ImportError("No module named 'optuna'")
        return real(name, *rest)

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(TaskError, match=r"needs the package optuna.*install optuna") as caught:
        search(Stub(), tmp_path / "a", trials=1, space=SPACE, start=START)
    assert caught.value.code == Code.CONTAINER
    assert not (tmp_path / "a").exists()
