"""One round of active learning: images are chosen and labelled, a network trained and evaluated."""

from __future__ import annotations

import logging
import math
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from bench.label_choice import RANDOM, Strategy, first_of_ranking, random_choice, start_set
from bench.round_log import START, RoundResult, append_result
from data.dataset_index import DatasetIndex
from settings.train import TrainSettings
from tasks.run import run
from tools.make_task import write_task
from tools.sources import SourceDataset, SourceImage
from training.checkpoints import Saved
from training.loop import TrainingJob, train
from utils.device import parse_gpu_ids, select_device
from utils.progress import Progress
from ymir.task import read_task

log = logging.getLogger("active_learning")

EMPTY = np.zeros((0, 4)), np.zeros(0, np.int64)
"""No boxes, no classes: mining is not shown the labels."""


@dataclass(frozen=True)
class Experiment:
    """What all curves of a run have in common."""

    out: Path
    pool: DatasetIndex
    validation: DatasetIndex
    settings: TrainSettings
    steps: int
    """Batches of every training; 0 for `settings.epochs` epochs instead."""
    start: int
    per_round: int
    rounds: int
    weights: Path | None
    gpu_id: str

    @property
    def images(self) -> list[str]:
        """The pool by the names of its files, each a digest of the content."""
        return [Path(path).name for path in self.pool.paths]

    def labelled(self, images: Sequence[str]) -> DatasetIndex:
        """The part of the pool with labels, in the pool's order whatever that of the choice."""
        chosen = set(images)
        return self.pool.subset([i for i, name in enumerate(self.images) if name in chosen])

    def folder(self, seed: int, strategy: str, number: int) -> Path:
        """Where a round has its weights."""
        return self.out / f"seed-{seed}" / strategy / f"round-{number}"

    def results(self, seed: int) -> Path:
        """The finished rounds of a seed."""
        return self.out / f"seed-{seed}" / "results.jsonl"


def epochs_of(*, labels: int, batch_size: int, epochs: int, steps: int) -> int:
    """Epochs of one training: `epochs`, or as many as `steps` batches take, the last one whole."""
    return math.ceil(steps / math.ceil(labels / batch_size)) if steps else epochs


def learn(experiment: Experiment, labelled: Sequence[str], *, seed: int, folder: Path) -> Saved:
    """Train on the labelled images; the weights of the last epoch, evaluated once."""
    settings = experiment.settings
    epochs = epochs_of(
        labels=len(labelled),
        batch_size=settings.batch_size,
        epochs=settings.epochs,
        steps=experiment.steps,
    )
    return train(
        TrainingJob(
            settings=replace(settings, seed=seed, epochs=epochs),
            train=experiment.labelled(labelled),
            validation=experiment.validation,
            device=select_device(parse_gpu_ids(experiment.gpu_id)),
            folder=folder,
            stage_folder=lambda stage: folder / stage,
            on_saved=lambda saved: None,
            weights=experiment.weights,
        ),
        Progress(lambda fraction: None),
    )


def choose(
    experiment: Experiment, strategy: Strategy, over: Sequence[RoundResult], *, seed: int
) -> list[str]:
    """The images that a strategy wants labelled after the rounds that are over."""
    labelled = [image for result in over for image in result.added]
    known, number = set(labelled), len(over)
    waiting = [image for image in experiment.images if image not in known]
    if strategy.name == RANDOM:
        return random_choice(waiting, experiment.per_round, seed=seed, round_number=number)
    before = experiment.folder(seed, _owner(strategy, number - 1), number - 1)
    weights = before / "best" / "best.pt"
    if not weights.is_file():
        log.info("the weights of round %d are gone: training them again", number - 1)
        weights = learn(experiment, labelled, seed=seed, folder=before).files[0]
    folder = experiment.folder(seed, strategy.folder, number) / "mining"
    ranking = mine(experiment, waiting, strategy, seed=seed, weights=weights, folder=folder)
    return first_of_ranking(ranking, waiting, experiment.per_round)


def _owner(strategy: Strategy, number: int) -> str:
    return strategy.folder if number else START


def mine(
    experiment: Experiment,
    waiting: Sequence[str],
    strategy: Strategy,
    *,
    seed: int,
    weights: Path,
    folder: Path,
) -> list[str]:
    """A mining task on the images without labels, as the platform would run it; its ranking."""
    shutil.rmtree(folder, ignore_errors=True)  # what a kill left of the same task
    wanted = set(waiting)
    paths = [Path(path) for path in experiment.pool.paths if Path(path).name in wanted]
    source = SourceDataset(
        layout="pool",
        class_names=experiment.pool.class_names,
        splits={"train": tuple(SourceImage(path, *EMPTY) for path in paths), "val": (), "test": ()},
        notes=(),
    )
    env_file = write_task(
        source,
        folder,
        kinds=("mining",),
        candidates="train",
        settings={
            "img_size": experiment.settings.img_size,
            "seed": seed,
            "plots": False,
            **strategy.settings,
        },
        weights=[weights],
        gpu_id=experiment.gpu_id,
    )
    task = read_task(env_file)
    run(task, Progress(lambda fraction: None))
    lines = task.out.mining_result.read_text(encoding="utf-8").splitlines()
    return [Path(line.split("\t")[0]).name for line in lines]


def run_round(
    experiment: Experiment, strategy: Strategy | None, over: Sequence[RoundResult], *, seed: int
) -> RoundResult:
    """The next round after those that are over: choose, train, evaluate, record.

    Without a strategy it is round 0, that of the starting set.
    """
    started, number = time.monotonic(), len(over)
    if strategy is None:
        added = start_set(experiment.images, experiment.start, seed)
    else:
        added = choose(experiment, strategy, over, seed=seed)
    labelled = [image for result in over for image in result.added] + added
    name = START if strategy is None else strategy.folder
    folder = experiment.folder(seed, name, number)
    saved = learn(experiment, labelled, seed=seed, folder=folder)
    result = RoundResult(
        seed=seed,
        strategy=START if strategy is None else strategy.name,
        round_number=number,
        added=tuple(added),
        labels=len(labelled),
        boxes=len(experiment.labelled(labelled).boxes),
        epochs=saved.epoch + 1,
        map50=saved.evaluation.scores.map50,
        map50_95=saved.evaluation.scores.map50_95,
        losses=saved.evaluation.losses,
        seconds=time.monotonic() - started,
    )
    append_result(experiment.results(seed), result)
    # Only the best weights of the latest round are needed again, and the starting set's.
    shutil.rmtree(folder / "last", ignore_errors=True)
    shutil.rmtree(folder / "mining", ignore_errors=True)
    if number > 1 and strategy is not None:
        shutil.rmtree(experiment.folder(seed, name, number - 1), ignore_errors=True)
    log.info(
        "seed %d, %s, round %d of %d: %d labels, mAP50 %.4f (%.0f s)",
        seed,
        result.strategy,
        number,
        experiment.rounds,
        result.labels,
        result.map50,
        result.seconds,
    )
    return result
