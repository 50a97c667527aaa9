"""Search for better hyper-parameters: many short trainings, one after the other.

    python evolve.py --trials 100 --data data.yaml --weights best.pt --img 320 --epochs 10
    python train.py --hyp runs/evolve/exp/hyp_evolve.yaml --data data.yaml

The same command with --exist-ok resumes a search that was stopped.
"""

from __future__ import annotations

if __name__ == "__main__":
    from cli.parsers import train_parser
    from utils.shutdown import listen_for_interrupts

    listen_for_interrupts()  # before the seconds that the imports take
    train_parser("evolve.py").read()  # so that help and a mistyped flag do not wait for them either

import logging
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from cli.options import as_typed, language_of, log_next
from cli.parsers import train_parser
from cli.train import parse_train_command
from train import check_weights
from training.evolution import search, search_space, starting_point, train_trial, trial_settings
from training.job import TrainingJob
from utils.command import resumed_by, run_command
from utils.device import describe, parse_device
from utils.errors import Code, TaskError
from utils.logs import log_to_console

log = logging.getLogger(__name__)


def main(arguments: Sequence[str] | None = None) -> None:
    """Search with the flags of train.py, and write the best set as a YAML file."""
    log_to_console(language=language_of(arguments))
    words = sys.argv[1:] if arguments is None else arguments
    trials = train_parser("evolve.py").read(words)["trials"]
    if trials < 1:
        raise TaskError(Code.CONFIG, f"--trials is {trials}; it must be 1 or more.")
    command = parse_train_command(["--project", "runs/evolve", *words], program="evolve.py")
    device, settings = parse_device(command.device), command.settings
    log.info("%s", describe(device))
    check_weights(command)
    (train_index, validation), _ = command.data.read(settings.max_bad_fraction)
    with command.run.opened(has_trials) as folder:
        space = search_space(settings)

        def objective(values: Mapping[str, float], number: int) -> float:
            job = TrainingJob(
                settings=trial_settings(settings, values),
                train=train_index,
                validation=validation,
                device=device,
                folder=folder / "trials" / f"{number:04d}",
                stage_folder=lambda stage: folder / stage,
                weights=command.weights,
            )
            return train_trial(job)

        own = ["--project", str(folder.parent), "--name", folder.name, "--exist-ok"]
        with resumed_by(lambda: as_typed("python", "evolve.py", *sys.argv[1:], *own)):
            best = search(
                objective,
                folder,
                trials=trials,
                space=space,
                start=starting_point(settings, space),
                seed=settings.seed,
            )
    log.info(
        "best of %d trials: number %d with fitness %.4f: %s",
        *(best.trials, best.number, best.fitness, folder / "hyp_evolve.yaml"),
    )
    data = command.data.description or "DATA.yaml"
    hyper = ("--hyp", folder / "hyp_evolve.yaml", "--data", data, "--imgsz", settings.img_size)
    start = ("--weights", settings.weights) if settings.weights else ("--cfg", settings.model)
    log_next("train with them", "python", "train.py", *hyper, *start)


def has_trials(folder: Path) -> bool:
    """Return whether a trial was finished in a run folder."""
    return (folder / "evolve.csv").is_file()


if __name__ == "__main__":
    sys.exit(run_command(main))
