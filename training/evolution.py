"""Evolve hyper-parameters: search for those of the highest fitness with Optuna, resumably.

Optuna's tree-structured Parzen estimator takes the place of v7.0's genetic algorithm. Every trial
is in `study.db` as soon as it is done.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from reporting.plots import importances, save_figure
from settings.parse import parse_settings
from settings.train import TrainSettings
from training.job import TrainingJob
from training.loop import train
from utils.atomic import write_text
from utils.errors import Code, TaskError, optional_package
from utils.logs import only_warnings
from utils.progress import Progress

STUDY = "evolve"
DIGITS = 5
"""Decimals of the values tried, as in v7.0."""
DEFAULT_ANCHORS = 3
"""Anchors per level that v7.0 starts from if the settings keep the model's."""

log = logging.getLogger(__name__)

Objective = Callable[[Mapping[str, float], int], float]
"""Maps values and the number of the trial (from 0) to a fitness."""


@dataclass(frozen=True)
class Interval:
    """A closed interval of a hyper-parameter; `log` samples on a logarithmic scale."""

    min: float
    max: float
    integer: bool = False
    log: bool = False


# The limits of v7.0's evolution. Left out are those that it never changes (iou_t, fl_gamma,
# perspective, fliplr) and copy_paste, which needs outlines of the objects.
LIMITS: Mapping[str, Interval] = {
    "lr0": Interval(1e-5, 0.1, log=True),
    "lrf": Interval(0.01, 1.0, log=True),
    "momentum": Interval(0.6, 0.98),
    "weight_decay": Interval(0.0, 0.001),
    "warmup_epochs": Interval(0.0, 5.0),
    "warmup_momentum": Interval(0.0, 0.95),
    "warmup_bias_lr": Interval(0.0, 0.2),
    "box": Interval(0.02, 0.2),
    "cls": Interval(0.2, 4.0),
    "cls_pw": Interval(0.5, 2.0),
    "obj": Interval(0.2, 4.0),
    "obj_pw": Interval(0.5, 2.0),
    "anchor_t": Interval(2.0, 8.0),
    "anchors": Interval(2, 10, integer=True),
    "hsv_h": Interval(0.0, 0.1),
    "hsv_s": Interval(0.0, 0.9),
    "hsv_v": Interval(0.0, 0.9),
    "degrees": Interval(0.0, 45.0),
    "translate": Interval(0.0, 0.9),
    "scale": Interval(0.0, 0.9),
    "shear": Interval(0.0, 10.0),
    "flipud": Interval(0.0, 1.0),
    "mosaic": Interval(0.0, 1.0),
    "mixup": Interval(0.0, 1.0),
}


def search_space(settings: TrainSettings) -> dict[str, Interval]:
    """Return the intervals to search; without `anchors` if noautoanchor keeps them."""
    kept = "anchors" if settings.noautoanchor else ""
    return {name: interval for name, interval in LIMITS.items() if name != kept}


def starting_point(settings: TrainSettings, space: Mapping[str, Interval]) -> dict[str, float]:
    """Return the settings' own values, clipped to the intervals."""
    values = {name: getattr(settings, name) for name in space}
    if values.get("anchors") == 0:
        values["anchors"] = DEFAULT_ANCHORS
    return {name: min(max(values[name], i.min), i.max) for name, i in space.items()}


def trial_settings(settings: TrainSettings, values: Mapping[str, float]) -> TrainSettings:
    """Return the settings of a trial: no figures, no export, and as in v7.0 one evaluation."""
    fixed = {"plots": False, "onnx": False, "noval": True, "nosave": True}
    changed, _ = parse_settings(TrainSettings, {**values, **fixed})
    return replace(settings, **{name: getattr(changed, name) for name in (*values, *fixed)})


def train_trial(job: TrainingJob) -> float:
    """Train and return the fitness of the best weights, which are not kept; log warnings only."""
    job.folder.mkdir(parents=True, exist_ok=True)
    with only_warnings(), tempfile.TemporaryDirectory(dir=job.folder) as scratch:
        folder = Path(scratch)
        # A trial stands for the rates that it was given.
        trial = replace(job, stage_folder=lambda stage: folder / stage, recovers=False)
        best = train(trial, Progress())
        assert best is not None
        return float(best.evaluation.scores.fitness)


@dataclass(frozen=True)
class BestTrial:
    """The best trial so far: its values, fitness and number, and how many trials are done."""

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
) -> BestTrial:
    """Run trials until `trials` are done in all, those of earlier calls included.

    The first trial is `start`. A trial whose loss is no longer finite has fitness 0; any other
    error ends the search, and nothing that is done is lost. Writes study.db, evolve.csv,
    hyp_evolve.yaml and importance.png to `folder`, and logs a line a trial. Raises
    TaskError(CONFIG) without Optuna.
    """
    optuna = optional_package("optuna", purpose="the search for hyper-parameters")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    folder.mkdir(parents=True, exist_ok=True)
    storage = f"sqlite:///{(folder / 'study.db').absolute()}"
    study = optuna.create_study(
        storage=storage, study_name=STUDY, direction="maximize", load_if_exists=True
    )
    # Interrupted trials stay in the study, but not among those that are done.
    study.sampler = optuna.samplers.TPESampler(seed=seed + len(study.trials))
    first = {name: _rounded(value) for name, value in start.items()}
    if not study.trials:
        study.enqueue_trial(first)

    def attempt(trial: Any) -> float:
        values = {name: _suggest(trial, name, interval) for name, interval in space.items()}
        try:
            fitness = objective(values, trial.number)
        except TaskError as error:
            if error.code != Code.NOT_A_NUMBER:
                raise
            log.warning("trial %d counts 0: %s", trial.number, error.sentence)
            fitness = 0.0
        return fitness

    done = len(_done(study, optuna))
    while done < trials:
        study.optimize(attempt, n_trials=1)
        trial, best, done = study.trials[-1], study.best_trial, len(_done(study, optuna))
        changed = [
            f"{name} {value:.4g}" for name, value in best.params.items() if value != first[name]
        ]
        log.info(
            "trial %d (%d of %d): fitness %.4f; best %.4f by trial %d: %s",
            *(trial.number, done, trials, trial.value or 0.0, best.value, best.number),
            ", ".join(changed) or "the values it began with",
        )
        _write(study, optuna, folder, space)
    best = study.best_trial
    if done > 1:  # one trial has no importances
        evaluator = optuna.importance.PedAnovaImportanceEvaluator()
        shares = optuna.importance.get_param_importances(study, evaluator=evaluator)
        save_figure(importances(shares), folder / "importance.png")
    return BestTrial(dict(best.params), float(best.value), best.number, done)


def _suggest(trial: Any, name: str, interval: Interval) -> float:
    if interval.integer:
        return int(trial.suggest_int(name, int(interval.min), int(interval.max)))
    value = trial.suggest_float(name, interval.min, interval.max, log=interval.log)
    return max(_rounded(value), interval.min)


def _rounded(value: float) -> float:
    return value if isinstance(value, int) else round(value, DIGITS)


def _done(study: Any, optuna: Any) -> list[Any]:
    return study.get_trials(  # type: ignore[no-any-return]
        deepcopy=False, states=(optuna.trial.TrialState.COMPLETE,)
    )


def _write(study: Any, optuna: Any, folder: Path, space: Mapping[str, Interval]) -> None:
    """Write every trial as a line of evolve.csv, and the best as a file that `hyp` can name."""
    rows = [",".join(("trial", "fitness", *space))]
    for trial in _done(study, optuna):
        tried = (trial.params.get(name, "") for name in space)
        shown = (f"{value:.5g}" if isinstance(value, float) else str(value) for value in tried)
        rows.append(",".join((str(trial.number), f"{trial.value:.5f}", *shown)))
    write_text(folder / "evolve.csv", "\n".join(rows) + "\n")
    best = study.best_trial
    values = {
        name: value if interval.integer else max(_rounded(value), interval.min)
        for name, interval in space.items()
        if (value := best.params.get(name)) is not None
    }
    heading = f"# Best of {len(rows) - 1} trials: number {best.number}, fitness {best.value:.5f}\n"
    write_text(folder / "hyp_evolve.yaml", heading + yaml.safe_dump(values, sort_keys=False))
