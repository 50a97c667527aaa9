"""What a mining or inference task looks at and how, alike in every process that looks."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from data.images import ImageError, read_image
from data.index_file import Candidate, read_candidates
from data.workers import thread_count
from inference.journal import Entry, digest_of
from inference.predictions import Prediction, merge_tiles
from inference.predictor import Predictor, load_predictor
from mining.registry import ALGORITHMS
from mining.scores import Scored, ScoringContext, images_without_network
from settings.detect import DetectionSettings
from tasks.going_on import OnImage
from utils.device import describe
from utils.distributed import SINGLE_PROCESS, DistContext
from ymir.task_types import Task

log = logging.getLogger(__name__)

KNOWN = "known.jsonl"
UNSEEN_SECTION = 256
CHANGES_NO_NUMBER = frozenset({"args_options", "plots", "workers"})
"""Settings that may differ when a task goes on; what `args_options` says counts by its settings."""


@dataclass(frozen=True)
class CandidateJob:
    """The candidates of a task, and the network that looks at them.

    No batch mixes images of two sections of `section` candidates, so it does not matter which
    process looks at a section. `identity` is a digest of all that the numbers depend on.
    """

    task: Task
    settings: DetectionSettings
    candidates: Sequence[Candidate]
    paths: Sequence[str]
    repeated: int
    predictor: Predictor | None
    section: int
    identity: str
    workers: int

    @property
    def known(self) -> Path:
        """Where what is known of each candidate is written."""
        return log_of(self.task)

    def scores(self, positions: Iterable[int], watch: OnImage) -> Iterator[Scored]:
        """Scores of the candidates at `positions` (whole sections, rising) that no other image
        has changed yet; `watch` is told of each image before its score comes.
        """
        settings = self.task.mining
        assert settings is not None
        if self.predictor is None:
            parts = images_without_network(self.paths, workers=self.workers, positions=positions)
        else:
            parts = self.predictor.stream_parts(
                self.paths,
                batch_size=self.settings.batch_size,
                workers=self.workers,
                keep_views=True,
                positions=positions,
            )
        watched = _seen_whole(parts, self.predictor, watch)
        algorithm = ALGORITHMS[settings.mining_algorithm]
        return algorithm.score(watched, ScoringContext(self.predictor, settings, len(self.paths)))

    def found(self, positions: Iterable[int]) -> Iterator[Prediction]:
        """What is detected in the candidates at `positions` (whole sections, rising)."""
        assert self.predictor is not None
        parts = self.predictor.stream_parts(
            self.paths,
            batch_size=self.settings.batch_size,
            workers=self.workers,
            positions=positions,
        )
        return merge_tiles(parts, self.predictor.gathering())

    def found_from(self, first: int) -> Iterator[Prediction]:
        """As `found`, of all candidates from one on."""
        return self.found(range(first, len(self.paths)))

    def announce(self) -> None:
        """Say in the log what there is to look at, and what is odd about it."""
        if self.repeated:
            log.warning(
                "%d lines of the candidate index repeat an image; each counts once", self.repeated
            )
        if self.predictor is None:
            log.info("%d candidates, no network is needed", len(self.paths))
            return
        weights = self.task.weights[0]
        _compare_names(self.task, self.predictor, weights)
        size = self.predictor.image_size
        log.info("%d candidates, weights %s, %d px", len(self.paths), weights, size)


def log_of(task: Task) -> Path:
    """The file with what is known of each candidate of a task."""
    return task.out.root / ("mining" if task.run_mining else "infer") / KNOWN


def prepare(
    task: Task,
    device: torch.device,
    processes: DistContext = SINGLE_PROCESS,
    *,
    shared: bool = False,
) -> CandidateJob:
    """Read the candidates and load the network, for one of several processes or for all of it.

    `shared` says that several processes look at these candidates: the engine `auto` is then torch.
    """
    settings = task.infer or task.mining
    assert settings is not None
    assert task.candidate_index is not None
    # Of the machine before it is shared: no number may depend on how many share it.
    where = describe(device)
    lanes = torch.get_num_threads() if device.type == "cpu" else 1
    processes.set_device(device)
    candidates, repeated = read_candidates(task.candidate_index, task.root_in)
    predictor, weights, section = None, None, UNSEEN_SECTION
    if task.needs_network:
        weights = task.weights[0]
        section = section_size(settings.batch_size, lanes, device)
        predictor = load_predictor(weights, settings, device)
        predictor.section, predictor.lanes_in_all = section, lanes
        # Each process could come to another choice, and its numbers would be others.
        engine = "torch" if settings.engine == "auto" and shared else settings.engine
        predictor.use_engine(
            engine, [one.path for one in candidates], batch_size=settings.batch_size
        )
    return CandidateJob(
        task=task,
        settings=settings,
        candidates=candidates,
        paths=[candidate.path for candidate in candidates],
        repeated=repeated,
        predictor=predictor,
        section=section,
        identity=identity_of(task, candidates, weights, where),
        workers=settings.workers
        if settings.workers > 0
        else thread_count(processes.local_world_size),
    )


def section_size(batch_size: int, lanes: int, device: torch.device) -> int:
    """Candidates per section: what a killed task may have to do again, a minute or so of work,
    and many batches, since the last ones of a section are not full.
    """
    return batch_size * (max(8, lanes) if device.type == "cpu" else 64)


def is_readable_by_now(entry: Entry) -> bool:
    """Whether an image that could not be read can be: its folder may have been away for a time."""
    if entry.error is None:
        return False
    try:
        read_image(entry.path)
    except ImageError:
        return False
    return True


def identity_of(
    task: Task, candidates: Sequence[Candidate], weights: Path | None, where: str
) -> str:
    """A digest of all that the numbers of a task depend on, `where` it runs among them."""
    kinds = {"mining": task.mining, "infer": task.infer}
    settings = {
        kind: {k: v for k, v in asdict(own).items() if k not in CHANGES_NO_NUMBER}
        for kind, own in kinds.items()
        if own is not None
    }
    what = {"settings": settings, "device": where, "torch": torch.__version__}
    texts = [text for one in candidates for text in (one.text, one.path)]
    return digest_of(what, texts, weights)


def _seen_whole(
    parts: Iterable[Prediction], predictor: Predictor | None, watch: OnImage
) -> Iterator[Prediction]:
    """Pass parts of images on; an image whose last part came is shown to the watcher first."""
    gathering = predictor.gathering() if predictor else None
    for part in parts:
        whole = gathering.add(part) if gathering else part
        if whole is not None:
            watch(whole)
        yield part


def _compare_names(task: Task, predictor: Predictor, weights: Path) -> None:
    """The checkpoint knows what its channels mean; the task may say otherwise."""
    if task.class_names and task.class_names != predictor.class_names:
        log.warning(
            "the task names the classes %s but %s was trained on %s: using the names of the "
            "weights",
            list(task.class_names),
            weights.name,
            list(predictor.class_names),
        )
