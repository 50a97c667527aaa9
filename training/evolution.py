"""A search for the hyper-parameters of the highest fitness, which can be stopped and gone on with.

The search itself is the package Optuna's (tree-structured Parzen estimator); every trial is in
`study.db` as soon as it is done.
"""

from __future__ import annotations

import importlib
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from reporting.plots import importances, save_figure
from training.search_space import Interval
from utils.atomic import write_text
from utils.errors import Code, TaskError

STUDY = "evolve"
DIGITS = 5
"""Decimals of the values that are tried, as in v7.0."""

log = logging.getLogger(__name__)

Objective = Callable[[Mapping[str, float], int], float]
"""Told the values to try and the number of the trial from 0; its fitness."""


@dataclass(frozen=True)
class Found:
    """The best trial so far: its values, its fitness, its number, and how many are done."""

    values: dict[str, float]
    fitness: float
    number: int
    trials: int


def search(
    objective: Objective,
    folder: Path,
    *,
    trials: int,
    space: Mapping[str, Interval],
    start: Mapping[str, float],
    seed: int = 0,
) -> Found:
    """Try until `trials` trials are done in all, those of earlier calls included.

    The first trial is `start`. A trial whose loss stops being a number counts with fitness 0; any
    other error ends the search, and nothing that is done is lost. Leaves in `folder` study.db,
    evolve.csv, hyp_evolve.yaml and importance.png. Raises TaskError(CONTAINER) without Optuna.
    """
    optuna = _optuna()
    folder.mkdir(parents=True, exist_ok=True)
    storage = f"sqlite:///{(folder / 'study.db').absolute()}"
    study = optuna.create_study(
        storage=storage, study_name=STUDY, direction="maximize", load_if_exists=True
    )
    # Trials that were cut short stay in the study, but not among those that are done.
    study.sampler = optuna.samplers.TPESampler(seed=seed + len(study.trials))
    if not study.trials:
        study.enqueue_trial({name: _rounded(value) for name, value in start.items()})

    def attempt(trial: Any) -> float:
        values = {name: _suggest(trial, name, interval) for name, interval in space.items()}
        try:
            fitness = objective(values, trial.number)
        except TaskError as error:
            if error.code != Code.NOT_A_NUMBER:
                raise
            log.warning("trial %d counts 0: %s", trial.number, error.sentence)
            fitness = 0.0
        log.info("trial %d: fitness %.4f", trial.number, fitness)
        return fitness

    done = len(_done(study, optuna))
    while done < trials:
        study.optimize(attempt, n_trials=1)
        done = len(_done(study, optuna))
        _write(study, optuna, folder, space)
    best = study.best_trial
    _draw(study, optuna, folder)
    return Found(dict(best.params), float(best.value), best.number, done)


def _optuna() -> Any:
    try:
        optuna = importlib.import_module("optuna")
    except ImportError as error:
        raise TaskError(
            Code.CONTAINER,
            f"the search for hyper-parameters needs the package optuna, which cannot be imported "
            f"({error}): install optuna.",
        ) from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna


def _suggest(trial: Any, name: str, interval: Interval) -> float:
    if interval.whole:
        return int(trial.suggest_int(name, int(interval.least), int(interval.most)))
    value = trial.suggest_float(name, interval.least, interval.most, log=interval.by_factor)
    return max(_rounded(value), interval.least)


def _rounded(value: float) -> float:
    return value if isinstance(value, int) else round(value, DIGITS)


def _done(study: Any, optuna: Any) -> list[Any]:
    return study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.COMPLETE,))


def _write(study: Any, optuna: Any, folder: Path, space: Mapping[str, Interval]) -> None:
    """Every trial as a line of evolve.csv, and the best as a file that `hyp` can name."""
    rows = [",".join(("trial", "fitness", *space))]
    for trial in _done(study, optuna):
        tried = (trial.params.get(name, "") for name in space)
        shown = (f"{value:.5g}" if isinstance(value, float) else str(value) for value in tried)
        rows.append(",".join((str(trial.number), f"{trial.value:.5f}", *shown)))
    write_text(folder / "evolve.csv", "\n".join(rows) + "\n")
    best = study.best_trial
    values = {
        name: value if interval.whole else max(_rounded(value), interval.least)
        for name, interval in space.items()
        if (value := best.params.get(name)) is not None
    }
    heading = f"# Best of {len(rows) - 1} trials: number {best.number}, fitness {best.value:.5f}\n"
    write_text(folder / "hyp_evolve.yaml", heading + yaml.safe_dump(values, sort_keys=False))


def _draw(study: Any, optuna: Any, folder: Path) -> None:
    """How much each value matters for the fitness; nothing to say below two trials."""
    if len(_done(study, optuna)) < 2:
        return
    evaluator = optuna.importance.PedAnovaImportanceEvaluator()
    shares = optuna.importance.get_param_importances(study, evaluator=evaluator)
    save_figure(importances(shares), folder / "importance.png")
