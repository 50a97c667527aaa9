"""Active learning on labelled data: label, train, mine, label again, beside random choice.

    python -m bench.active_learning --data path/to/bccd --strategies random cald --out runs/active

Of the training split `--start` images are labelled first, the same ones for every strategy of a
seed. In each round a strategy chooses `--per-round` more, and a network is trained anew on all of
them; its last epoch's weights are evaluated on the full validation split, which selects nothing. A
strategy is `random` or a mining algorithm, with settings after colons: `cald:empty_images=first`.
A run may be killed at any time: the same command resumes after the last finished round.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
import math
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from bench.active_rounds import (
    RANDOM,
    Experiment,
    Learner,
    Strategy,
    WholeNetwork,
    finished_rounds,
    parse_strategies,
    read_results,
    run_round,
)
from bench.learning_curves import complete_curves, default_target, plot_curves, table
from bench.training import RECIPE, parse_pairs, read_splits, training_parser
from settings.parse import parse_settings
from settings.train import TrainSettings
from tools.make_task import write_task
from tools.sources import SourceDataset, read_source
from training.resume import IRRELEVANT
from utils.atomic import write_text
from utils.command import run_command
from utils.device import parse_gpu_ids, select_device
from utils.errors import Code, TaskError
from utils.logs import log_to_console
from utils.official_weights import missing_weights

log = logging.getLogger("active_learning")

OWN = ("seed", "epochs", "noval", "weights", "resume", "nosave")
"""Training settings that the benchmark itself sets."""
FEWEST_BATCHES = 120
"""Trainings of fewer, half of them warm-up, fall from one number of labels to a larger one."""
POOL = "labelled-pool"
"""Folder of the data as a training task has them, written once per run."""


def run_seed(
    learner: Learner, experiment: Experiment, strategies: Sequence[Strategy], seed: int
) -> None:
    """Run every round of a seed that is not finished yet."""
    path = experiment.results(seed)
    if not read_results(path):
        run_round(learner, experiment, None, (), seed=seed)
    rounds = experiment.rounds
    for strategy in strategies:
        results = read_results(path)
        done = finished_rounds(results, seed=seed, strategy=strategy.name, rounds=rounds)
        while len(done) <= rounds:
            done.append(run_round(learner, experiment, strategy, done, seed=seed))


def report(experiment: Experiment, options: argparse.Namespace) -> str:
    """Write report.md and learning_curves.png from the complete curves; return the table."""
    seeds, names = list(dict.fromkeys(options.seeds)), options.strategies
    results = [result for seed in seeds for result in read_results(experiment.results(seed))]
    curves = complete_curves(results, names, seeds, experiment.rounds)
    text = table(curves, names, options.target or default_target(curves))
    write_text(experiment.out / "report.md", text + "\n")
    plot_curves(curves, names, experiment.out / "learning_curves.png")
    return text


def prepare(options: argparse.Namespace) -> Experiment:
    """Read the data, and check that the folder is empty or belongs to this run."""
    settings = training_settings(options)
    source = read_source(options.data)
    unlearnt = IRRELEVANT | {"seed"}
    learnt = {key: value for key, value in asdict(settings).items() if key not in unlearnt}
    weights = hashlib.sha256(options.weights.read_bytes()).hexdigest() if options.weights else ""
    setup = {
        "bench": options.bench,
        "data": _digest(source),
        "start": options.start,
        "per round": options.per_round,
        "steps": options.steps,
        "training": learnt,
        "mining": parse_pairs(options.mining_set, "--mining-set"),
        "weights": weights,
        "device": select_device(parse_gpu_ids(options.gpu_id)).type,
    }
    out: Path = options.out.resolve()
    _check_number(options, len(source.splits["train"]))
    write_pool(out, source, setup)
    bad = settings.max_bad_fraction
    pool, validation = read_splits(out / POOL, source.class_names, max_bad_fraction=bad)
    _check_number(options, len(pool))
    batches = options.steps or options.epochs * math.ceil(options.start / settings.batch_size)
    if 0 < batches < FEWEST_BATCHES:
        log.warning(
            "note: trainings of %d batches measure themselves more than the labels: give %d with "
            "--steps, or more",
            *(batches, FEWEST_BATCHES),
        )
    names = ("steps", "start", "per_round", "rounds", "weights", "gpu_id")
    given = {name: getattr(options, name) for name in names}
    return Experiment(out=out, pool=pool, validation=validation, settings=settings, **given)


def _check_number(options: argparse.Namespace, available: int) -> None:
    """Raise TaskError(CONFIG) for more labels than there are images."""
    needed = options.start + options.rounds * options.per_round
    if needed > available:
        raise TaskError(
            Code.CONFIG,
            f"{options.start} images to start with and {options.rounds} rounds of "
            f"{options.per_round} make {needed}, but the training split of {options.data} has "
            f"{available} different ones; lower --start, --per-round or --rounds.",
        )


def training_settings(options: argparse.Namespace) -> TrainSettings:
    """Return the settings of every training; TaskError(CONFIG) for one of `OWN`."""
    overrides = parse_pairs(options.set, "--set")
    if own := next((name for name in OWN if name in overrides), ""):
        raise TaskError(
            Code.CONFIG,
            f"--set {own}=... would change what the benchmark compares; it has options of its own "
            "for seeds, epochs and weights.",
        )
    # A few labels give few batches: every one of them is a step of the optimizer.
    recipe = {**RECIPE, "nominal_batch_size": 16, **overrides}
    recipe |= {"epochs": options.epochs, "noval": True}
    settings, remarks = parse_settings(TrainSettings, recipe)
    for remark in remarks:
        log.warning("note: %s", remark)
    if settings.batch_size < 1 and options.steps:
        raise TaskError(Code.CONFIG, "--steps needs a batch_size that is known: give a number.")
    return settings


def write_pool(out: Path, source: SourceDataset, setup: Mapping[str, object]) -> None:
    """Write the data below `out` once; TaskError(CONFIG) for another setup or a foreign folder."""
    described = out / "experiment.json"
    # A kill before the description was complete leaves these, and a temporary file of it.
    begun = (POOL, f".{described.name}.")
    strange = out.is_dir() and any(not path.name.startswith(begun) for path in out.iterdir())
    if strange and not described.is_file():
        raise TaskError(
            Code.CONFIG,
            f"{out} holds files but no experiment.json: it is no folder of this benchmark; name "
            "another one with --out.",
        )
    if not described.is_file():
        shutil.rmtree(out / POOL, ignore_errors=True)
        write_task(source, out / POOL)
        write_text(described, json.dumps(setup, indent=1) + "\n")
        return
    before, now = json.loads(described.read_text("utf-8")), json.loads(json.dumps(setup))
    differs = [
        f"{name} was {before.get(name)}, is {now.get(name)}"
        for name in sorted({*before, *now})
        if before.get(name) != now.get(name)
    ]
    if differs:
        raise TaskError(
            Code.CONFIG,
            f"{described} is of another run ({'; '.join(differs)}): results of both cannot be "
            "compared; say what it was begun with, or name another folder with --out.",
        )


def _digest(source: SourceDataset) -> str:
    """Digest class names, and names, sizes and labels of the training and validation images."""
    digest = hashlib.sha256("\0".join(source.class_names).encode())
    for split in ("train", "val"):
        for image in source.splits[split]:
            digest.update(f"{split}\0{image.path.name}\0{image.path.stat().st_size}\0".encode())
            digest.update(image.boxes.tobytes() + image.classes.tobytes())
    return digest.hexdigest()


def parser_of(bench: str, description: str | None, out: Path) -> argparse.ArgumentParser:
    """Return the parser of a benchmark of active learning, by its name."""
    parser = training_parser(bench, description, out)
    parser.set_defaults(bench=bench)
    parser.add_argument("--strategies", nargs="+", default=[RANDOM, "balanced"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--start", type=_positive, default=20, help="images labelled at first")
    parser.add_argument("--per-round", type=_positive, default=20, help="images added per round")
    parser.add_argument("--rounds", type=_positive, default=5, help="rounds after the first set")
    parser.add_argument("--epochs", type=_positive, default=100, help="of every training")
    steps = "batches of every training, instead of --epochs"
    parser.add_argument("--steps", type=_positive, default=0, help=steps)
    parser.add_argument("--weights", type=Path, help="weights that every training starts from")
    targets = "mAP50 to count labels for"
    parser.add_argument("--target", type=float, nargs="+", default=[], help=targets)
    parser.add_argument("--mining-set", action="append", default=[], metavar="KEY=VALUE")
    return parser


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is less than 1")
    return number


def main(arguments: Sequence[str] | None = None) -> None:
    """Compare strategies with a network that is trained as a whole."""
    parser = parser_of("bench.active_learning", __doc__, Path("runs/active-learning"))
    compare(parser.parse_args(arguments), WholeNetwork)


def compare(options: argparse.Namespace, learner_of: Callable[[Experiment], Learner]) -> None:
    """Run every curve that is not complete yet, and report after each seed."""
    log_to_console()
    if options.weights and not options.weights.is_file():
        raise missing_weights(options.weights)
    common = parse_pairs(options.mining_set, "--mining-set")
    strategies = parse_strategies(options.strategies, common)
    experiment = prepare(options)
    learner = learner_of(experiment)
    for seed in dict.fromkeys(options.seeds):
        run_seed(learner, experiment, strategies, seed)
        print(report(experiment, options), flush=True)


if __name__ == "__main__":
    sys.exit(run_command(main))
