"""Rounds of active learning: strategies that choose images, trainings, the log of results."""

from __future__ import annotations

import itertools
import json
import logging
import math
import re
import shutil
import time
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np

from bench.training import parse_pairs, training_job
from data.dataset_index import DatasetIndex
from evaluation.evaluator import Evaluation
from settings.detect import MiningSettings
from settings.parse import parse_settings
from settings.train import TrainSettings
from tasks.run import run
from tools.make_task import write_task
from tools.sources import SourceDataset, SourceImage
from training.loop import train
from utils.atomic import write_text
from utils.device import parse_gpu_ids, select_device
from utils.errors import Code, TaskError
from utils.progress import Progress
from utils.seeding import numpy_generator
from ymir.task import read_task

log = logging.getLogger("active_learning")

RANDOM = "random"
"""The baseline strategy: drawn from the seed, without weights."""
START = "start"
"""The strategy that round 0 is recorded under: the starting set, which all strategies share."""
START_STREAM, ROUND_STREAM = 1, 2
"""Streams of random numbers: that of the starting set, that of a round."""


@dataclass(frozen=True)
class Strategy:
    """A way to choose images: `random`, or a mining algorithm with settings of its own."""

    name: str
    """As the user wrote it: `cald`, or `cald:empty_images=first`."""
    settings: Mapping[str, str]
    """Settings of the mining task, `mining_algorithm` among them; none for `random`."""

    @property
    def folder(self) -> str:
        """The name as a folder name; two different names never share one."""
        plain = re.sub(r"[^\w.=-]+", "-", self.name)
        return plain if plain == self.name else f"{plain}-{zlib.crc32(self.name.encode()):08x}"


def parse_strategy(name: str, common: Mapping[str, str]) -> Strategy:
    """Parse `random` or `NAME[:KEY=VALUE]...`, with `common` settings; or TaskError(CONFIG)."""
    algorithm, *pairs = name.split(":")
    own = parse_pairs(pairs, name)
    if algorithm == RANDOM:
        if own:
            raise TaskError(
                Code.CONFIG, f"The strategy {name} has settings; random has none: give it alone."
            )
        return Strategy(name, {})
    settings = {**common, **own, "mining_algorithm": algorithm}
    _, remarks = parse_settings(MiningSettings, settings)
    if remarks:
        raise TaskError(Code.CONFIG, f"The strategy {name}: {'; '.join(remarks)}.")
    return Strategy(name, settings)


def parse_strategies(names: Sequence[str], common: Mapping[str, str]) -> list[Strategy]:
    """Parse every name; TaskError(CONFIG) for a name given twice."""
    if repeated := sorted({name for name in names if list(names).count(name) > 1}):
        raise TaskError(
            Code.CONFIG, f"The strategies name {', '.join(repeated)} twice; give each once."
        )
    return [parse_strategy(name, common) for name in names]


def sample_images(images: Sequence[str], number: int, seed: int, *stream: int) -> list[str]:
    """Sample so many images evenly, independent of the order of `images`."""
    ordered = sorted(images)
    chosen = numpy_generator(seed, *stream).permutation(len(ordered))[:number]
    return [ordered[position] for position in chosen]


@dataclass(frozen=True)
class RoundResult:
    """One finished round: the images labelled, and the figures of the network trained on them."""

    seed: int
    strategy: str
    round_number: int
    """0 for the starting set."""
    added: tuple[str, ...]
    """Images labelled in this round, by the name of their file in the pool."""
    labels: int
    """Labelled images that the network was trained on, those of earlier rounds included."""
    boxes: int
    """Labelled boxes in them."""
    rare_boxes: int
    """Those of rare classes: with less than half of a class's mean number of boxes in the pool."""
    epochs: int
    map50: float
    map50_95: float
    losses: tuple[float, float, float]
    """Box, objectness and class loss on the validation split."""
    seconds: float


def append_result(path: Path, result: RoundResult) -> None:
    """Replace the file, in one step, by one with a further line."""
    before = path.read_text("utf-8") if path.is_file() else ""
    write_text(path, f"{before}{json.dumps(asdict(result))}\n")


def read_results(path: Path) -> list[RoundResult]:
    """Read the rounds of a file; TaskError(CONFIG) for a line that is none."""
    content = path.read_bytes() if path.is_file() else b""
    results = []
    for number, line in enumerate(content.splitlines(), start=1):
        try:
            values = json.loads(line)
        except ValueError:  # bytes that are not UTF-8 included
            values = None
        if not isinstance(values, dict) or set(values) != {one.name for one in fields(RoundResult)}:
            raise TaskError(
                Code.CONFIG,
                f"line {number} of {path} is no finished round of this benchmark; remove the line, "
                "or name another folder with --out.",
            )
        values |= {name: tuple(values[name]) for name in ("added", "losses")}
        results.append(RoundResult(**values))
    return results


def finished_rounds(
    results: Sequence[RoundResult], *, seed: int, strategy: str, rounds: int
) -> list[RoundResult]:
    """Return the rounds of one curve from the starting set on, up to the first that is missing."""
    known = {(one.strategy, one.round_number): one for one in results if one.seed == seed}
    keys = [(START, 0), *((strategy, number + 1) for number in range(rounds))]
    return [known[key] for key in itertools.takewhile(known.__contains__, keys)]


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
        """The images of the pool by the names of their files, each a digest of the content."""
        return [Path(path).name for path in self.pool.paths]

    def labelled(self, images: Sequence[str]) -> DatasetIndex:
        """The labelled part of the pool, in the order of the pool."""
        chosen = set(images)
        return self.pool.subset([i for i, name in enumerate(self.images) if name in chosen])

    def starting_set(self, seed: int) -> list[str]:
        """Sample `start` images evenly, one of each class first: users label what they name."""
        names = self.images
        drawn = sample_images(names, len(names), seed, START_STREAM)
        owners, classes = self.pool.owners(), self.pool.classes
        shows = [{names[n] for n in owners[classes == k]} for k in np.unique(classes)]
        covering = [next(name for name in drawn if name in own) for own in shows]
        return list(dict.fromkeys([*covering, *drawn]))[: self.start]

    def boxes_in(self, images: Sequence[str]) -> tuple[int, int]:
        """Return the boxes of images, and those of rare classes among them."""
        counts, every = self.labelled(images).counts(), self.pool.counts()
        return int(counts.sum()), int(counts[2 * every < every.mean()].sum())

    def folder(self, seed: int, strategy: Strategy | None, number: int) -> Path:
        """Folder of a round's weights; None stands for the starting set, as does round 0."""
        name = strategy.folder if strategy and number else START
        return self.out / f"seed-{seed}" / name / f"round-{number}"

    def results(self, seed: int) -> Path:
        """File of the finished rounds of a seed."""
        return self.out / f"seed-{seed}" / "results.jsonl"


def epochs_of(experiment: Experiment, labels: int) -> int:
    """Return the epochs of a training: as set, or as `steps` batches take, the last one whole."""
    batches = math.ceil(labels / experiment.settings.batch_size)
    return math.ceil(experiment.steps / batches) or experiment.settings.epochs


class Trained(NamedTuple):
    """A finished training: its epochs, and the evaluation of the last one."""

    epochs: int
    evaluation: Evaluation


class Learner(Protocol):
    """What trains on labelled images, and ranks unlabelled ones with what it trained."""

    def train(self, labelled: Sequence[str], *, seed: int, folder: Path) -> Trained:
        """Train on the labelled images; what must stay goes below `folder`."""

    def rank(
        self,
        unlabelled: Sequence[str],
        settings: Mapping[str, object],
        labelled: Sequence[str],
        folders: tuple[Path, Path],
    ) -> list[str]:
        """Rank by a mining algorithm, with what was trained on `labelled` in the first folder."""


@dataclass(frozen=True)
class WholeNetwork:
    """The learner of a platform: tasks that train a whole network, and mine with its weights."""

    experiment: Experiment

    def train(self, labelled: Sequence[str], *, seed: int, folder: Path) -> Trained:
        """Train on the labelled images; the weights of the last epoch, evaluated once, stay."""
        experiment = self.experiment
        epochs = epochs_of(experiment, len(labelled))
        settings = replace(experiment.settings, seed=seed, epochs=epochs)
        splits = (experiment.labelled(labelled), experiment.validation)
        device = select_device(parse_gpu_ids(experiment.gpu_id))
        best = train(training_job(settings, splits, folder, device, experiment.weights), Progress())
        assert best
        return Trained(best.epoch + 1, best.evaluation)

    def rank(
        self,
        unlabelled: Sequence[str],
        settings: Mapping[str, object],
        labelled: Sequence[str],
        folders: tuple[Path, Path],
    ) -> list[str]:
        """Run a mining task on the unlabelled images, as the platform does."""
        before, now = folders
        weights = before / "best" / "best.pt"
        if not weights.is_file():
            log.info("the weights in %s are gone: training them again", before)
            self.train(labelled, seed=int(str(settings["seed"])), folder=before)
        return mine(self.experiment, unlabelled, settings, weights, now / "mining")


def choose(
    learner: Learner,
    experiment: Experiment,
    strategy: Strategy,
    done: Sequence[RoundResult],
    *,
    seed: int,
) -> list[str]:
    """Return the images that a strategy wants labelled after the finished rounds."""
    labelled = [image for result in done for image in result.added]
    known, number = set(labelled), len(done)
    unlabelled = [image for image in experiment.images if image not in known]
    if strategy.name == RANDOM:
        return sample_images(unlabelled, experiment.per_round, seed, ROUND_STREAM, number)
    before, now = (experiment.folder(seed, strategy, one) for one in (number - 1, number))
    settings = {"seed": seed, **strategy.settings}
    return learner.rank(unlabelled, settings, labelled, (before, now))[: experiment.per_round]


def mine(
    experiment: Experiment,
    unlabelled: Sequence[str],
    settings: Mapping[str, object],
    weights: Path,
    folder: Path,
) -> list[str]:
    """Run a mining task on the unlabelled images, as the platform does; return its ranking."""
    shutil.rmtree(folder, ignore_errors=True)  # what a kill left of the same task
    wanted, no_labels = set(unlabelled), (np.zeros((0, 4)), np.zeros(0, np.int64))
    paths = [Path(path) for path in experiment.pool.paths if Path(path).name in wanted]
    images = tuple(SourceImage(path, *no_labels) for path in paths)
    splits = {"train": (), "val": (), "test": images}
    env_file = write_task(
        SourceDataset("pool", experiment.pool.class_names, splits, ()),
        folder,
        kinds=("mining",),
        settings={"img_size": experiment.settings.img_size, "plots": False, **settings},
        weights=[weights],
        gpu_id=experiment.gpu_id,
    )
    task = read_task(env_file)
    run(task, Progress())
    lines = task.out.mining_result.read_text(encoding="utf-8").splitlines()
    return [Path(line.split("\t")[0]).name for line in lines]


def run_round(
    learner: Learner,
    experiment: Experiment,
    strategy: Strategy | None,
    done: Sequence[RoundResult],
    *,
    seed: int,
) -> RoundResult:
    """Choose (None: the starting set), train, evaluate and append the round after the others."""
    started, number = time.monotonic(), len(done)
    if strategy is None:
        added = experiment.starting_set(seed)
    else:
        added = choose(learner, experiment, strategy, done, seed=seed)
    labelled = [image for result in done for image in result.added] + added
    folder = experiment.folder(seed, strategy, number)
    trained = learner.train(labelled, seed=seed, folder=folder)
    boxes, rare_boxes = experiment.boxes_in(labelled)
    result = RoundResult(
        seed=seed,
        strategy=strategy.name if strategy else START,
        round_number=number,
        added=tuple(added),
        labels=len(labelled),
        boxes=boxes,
        rare_boxes=rare_boxes,
        epochs=trained.epochs,
        map50=trained.evaluation.scores.map50,
        map50_95=trained.evaluation.scores.map50_95,
        losses=trained.evaluation.losses,
        seconds=time.monotonic() - started,
    )
    append_result(experiment.results(seed), result)
    # Only the best weights of the latest round are needed again, and the starting set's.
    shutil.rmtree(folder / "last", ignore_errors=True)
    shutil.rmtree(folder / "mining", ignore_errors=True)
    if number > 1:
        shutil.rmtree(experiment.folder(seed, strategy, number - 1), ignore_errors=True)
    place = f"seed {seed}, {result.strategy}, round {number} of {experiment.rounds}"
    log.info("%s: %d labels, mAP50 %.4f", place, result.labels, result.map50)
    return result
