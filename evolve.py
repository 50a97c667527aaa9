"""Searches for better hyper-parameters: many short trainings, one after the other.

    python evolve.py --trials 100 --data data.yaml --weights best.pt --img 320 --epochs 10
    python train.py --hyp runs/evolve/exp/hyp_evolve.yaml --data data.yaml

The same command with --exist-ok goes on with a search that was stopped.
"""

from __future__ import annotations

import argparse
import logging
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from cli.train import parse_train_command
from settings.parse import parse_settings
from settings.train import TrainSettings
from training.evolution import search
from training.loop import TrainingJob, train
from training.search_space import search_space, starting_point
from utils.device import describe, parse_device
from utils.errors import Code, TaskError
from utils.logs import log_to_console
from utils.progress import Progress
from utils.shutdown import run_command

PROJECT = "runs/evolve"
TRIALS = 300
"""As many as v7.0's generations."""

log = logging.getLogger(__name__)


def tried(settings: TrainSettings, values: Mapping[str, float]) -> TrainSettings:
    """The settings of one trial: no pictures and no export, which say nothing about fitness, and
    as in v7.0 one evaluation, at the end.
    """
    fixed = {"plots": False, "onnx": False, "noval": True, "nosave": True}
    changed, _ = parse_settings(TrainSettings, {**values, **fixed})
    return replace(settings, **{name: getattr(changed, name) for name in (*values, *fixed)})


def fitness_of(job: TrainingJob) -> float:
    """The fitness of a training's best weights, which are not kept."""
    with tempfile.TemporaryDirectory(dir=job.folder) as scratch:
        held = replace(job, stage_folder=lambda stage: Path(scratch) / stage)
        best = train(held, Progress(lambda fraction: None))
        return float(best.evaluation.scores.fitness)


def main(arguments: Sequence[str] | None = None) -> None:
    """Search with the flags of train.py, and leave the best set as a YAML file."""
    log_to_console()
    parser = argparse.ArgumentParser(
        prog="evolve.py",
        description="Search for hyper-parameters; further flags: as train.py.",
        allow_abbrev=False,
    )
    parser.add_argument("--trials", type=int, default=TRIALS, help="trainings in all")
    options, words = parser.parse_known_args(sys.argv[1:] if arguments is None else arguments)
    if options.trials < 1:
        raise TaskError(Code.CONFIG, f"--trials is {options.trials}; it must be 1 or more.")
    command = parse_train_command(["--project", PROJECT, *words], program="evolve.py")
    for note in command.notes:
        log.warning("note: %s", note)
    device = parse_device(command.device)
    (train_index, validation), reports = command.data.read(command.settings.max_bad_fraction)
    lines = [line for report in reports for line in report.lines()]
    log.info("%s\n%s", describe(device), "\n".join(lines))
    folder = command.run.make()
    space = search_space(command.settings)

    def objective(values: Mapping[str, float], number: int) -> float:
        job = TrainingJob(
            settings=tried(command.settings, values),
            train=train_index,
            validation=validation,
            device=device,
            folder=folder / "trials" / f"{number:04d}",
            stage_folder=lambda stage: folder / stage,
            on_saved=lambda saved: None,
            weights=command.weights,
        )
        job.folder.mkdir(parents=True, exist_ok=True)
        return fitness_of(job)

    found = search(
        objective,
        folder,
        trials=options.trials,
        space=space,
        start=starting_point(command.settings, space),
        seed=command.settings.seed,
    )
    log.info(
        "best of %d trials: number %d with fitness %.4f; train with --hyp %s",
        *(found.trials, found.number, found.fitness, folder / "hyp_evolve.yaml"),
    )


if __name__ == "__main__":
    sys.exit(run_command(main))
