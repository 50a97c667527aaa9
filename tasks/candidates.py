"""Mining and inference tasks: predict every candidate once, and write the results."""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path

import torch

from data.images import ImageError, content_mark, read_image
from data.index_file import Candidate, read_candidates, read_original_names
from data.sources import available_sample, check_data_available, names_below
from data.workers import thread_count
from inference.backends.base import AUTO, TORCH
from inference.background import done_behind
from inference.batching import Sharding
from inference.journal import Journal, JournalConfig, Record
from inference.predictions import Prediction, TileMerger, merge_tiles
from inference.predictor import Predictor, load_predictor
from mining.explanations import write_explanations
from mining.ranking import Ranking, rank_images
from mining.registry import ALGORITHMS
from mining.scores import Algorithm, Scored, ScoringContext, images_without_network
from reporting.candidate_report import About, CandidateReport
from reporting.page import PAGE
from reporting.ranking_report import log_ranking
from reporting.training_page import setting_rows
from settings.detect import DetectionSettings
from utils.device import describe
from utils.distributed import SINGLE_PROCESS, DistContext
from utils.errors import Code, TaskError, best_effort
from utils.logs import counted, duration
from utils.progress import Progress, progress_bar
from ymir.results import InferResultWriter, write_mining_result
from ymir.task_types import Task

log = logging.getLogger(__name__)

EXPLANATIONS = "explanations.csv"
JOURNAL_FORMAT = 2
SHARDS = 32
"""Shards that a task on GPUs has at least, if each gets a batch: four for each of eight GPUs."""
WITHOUT_EFFECT = frozenset({"args_options", "language", "plots", "workers"})
"""Settings that may differ when a task resumes; what `args_options` says counts by its settings."""

OnImage = Callable[[Prediction], object]
"""A callback that gets every predicted image, its tiles merged."""


@dataclass(frozen=True)
class CandidateJob:
    """The candidates of a task and what predicts them, equal on every rank."""

    task: Task
    settings: DetectionSettings
    candidates: Sequence[Candidate]
    repeated: int
    """Lines of the candidate index that repeat an image."""
    predictor: Predictor | None
    journal: JournalConfig
    pool_workers: int
    """Workers of the pools of all ranks."""
    names: Mapping[str, str] = field(default_factory=dict)
    """Original names of the image files by path, where the task keeps them."""

    @property
    def paths(self) -> list[str]:
        """The image files."""
        return [candidate.path for candidate in self.candidates]

    @property
    def algorithm(self) -> Algorithm:
        """The mining algorithm."""
        return ALGORITHMS[self.context.settings.mining_algorithm]

    @property
    def context(self) -> ScoringContext:
        """What it may use."""
        assert self.task.mining is not None
        return ScoringContext(self.predictor, self.task.mining, len(self.candidates))

    def here(self, record: Record) -> Record:
        """Return a record of the journal with the path of now: the image may have been moved."""
        return replace(record, path=self.candidates[record.position].path)

    def records(
        self, positions: Iterable[int], callbacks: Sequence[OnImage] = ()
    ) -> Iterator[Record]:
        """Predict and score the candidates at `positions` (whole shards in rising order).

        Callbacks get an image, in a thread of their own, before its record comes: scores come
        later and in another order.
        """
        waiting: dict[int, Record] = {}
        seen: Counter[int] = Counter()

        def on_image(image: Prediction) -> None:
            for callback in callbacks:
                callback(image)
            first = self.journal.shard(image.position // self.journal.shard_size).start
            waiting[image.position] = Record(
                *(image.position, image.path, image.size, image.detections, image.error),
                seen=first + seen[first],
                mark=image.mark,
            )
            seen[first] += 1

        if not self.task.run_mining:
            assert self.predictor is not None
            images = merge_tiles(self.predictions(positions), self.predictor.config.nms)
            for prediction in done_behind(images, on_image):
                yield waiting.pop(prediction.position)
            return
        merger = TileMerger(self.predictor.config.nms) if self.predictor else None

        def on_tile(tile: Prediction) -> None:
            whole = merger.add(tile) if merger else tile
            if whole is not None:
                on_image(whole)

        tiles = done_behind(self.predictions(positions), on_tile)
        for scored in self.algorithm.score(tiles, self.context):
            yield replace(waiting.pop(scored.position), scored=scored.to_plain())

    def predictions(self, positions: Iterable[int]) -> Iterator[Prediction]:
        """Yield the predictions of tiles; of unpredicted images where no network is needed."""
        if self.predictor is None:
            return images_without_network(
                self.paths, workers=self.settings.workers, positions=positions
            )
        return self.predictor.stream_tiles(
            self.paths,
            keep_inputs=self.task.run_mining,
            keep_confidence=self.algorithm.confidence if self.task.run_mining else 1.0,
            sharding=Sharding(self.journal.shard_size, positions, self.pool_workers),
        )

    def log_description(self) -> None:
        """Log what there is to predict, and what is odd about it."""
        if self.repeated:
            log.warning(
                "%d lines of the candidate index repeat an image; each counts once", self.repeated
            )
        if self.predictor is None:
            log.info("%d candidates, no network is needed", len(self.candidates))
            return
        weights, names = self.task.weights[0], self.predictor.class_names
        if self.task.class_names and self.task.class_names != names:
            log.warning(
                "the task names the classes %s but %s was trained on %s: using its names",
                *(list(self.task.class_names), weights.name, list(names)),
            )
        size = self.predictor.image_size
        log.info("%d candidates, weights %s, %d px", len(self.candidates), weights, size)


def journal_path(task: Task) -> Path:
    """Return the journal of a task's candidates."""
    return task.out.root / ("mining" if task.run_mining else "infer") / "journal.jsonl"


@dataclass(frozen=True)
class Machine:
    """What numbers depend on beside the task; of the whole machine, before ranks share it."""

    device: str
    workers: int
    """Workers of the pools of all ranks."""

    @classmethod
    def of(cls, device: torch.device) -> Machine:
        """Describe this machine, for work on `device`."""
        return cls(describe(device), torch.get_num_threads() if device.type == "cpu" else 1)


def prepare(
    task: Task,
    device: torch.device,
    processes: DistContext = SINGLE_PROCESS,
    *,
    machine: Machine | None = None,
    shared: bool = False,
) -> CandidateJob:
    """Read the candidates and load the network.

    With `shared` several ranks predict the candidates, and the backend `auto` is torch on each.
    """
    settings = task.infer or task.mining
    assert settings is not None
    assert task.candidate_index is not None
    machine = machine or Machine.of(device)
    candidates, repeated = read_candidates(task.candidate_index, task.root_in)
    if settings.workers < 1:
        settings = replace(settings, workers=thread_count(processes.local_world_size))
    if settings.engine == AUTO and shared:
        # Each rank could choose another backend, and its numbers would differ.
        settings = replace(settings, engine=TORCH)
    predictor = None
    if task.needs_network:
        paths = [candidate.path for candidate in candidates]
        predictor = load_predictor(task.weights[0], settings, device, images=paths)
    if device.type == "cpu":
        batches = max(8, machine.workers)
    else:
        batches = shard_batches(len(candidates), settings.batch_size)
    journal = JournalConfig(
        path=journal_path(task),
        identity=identity_of(task, candidates, machine.device),
        shard_size=settings.batch_size * batches,
        total=len(candidates),
        is_outdated=partial(is_outdated, candidates),
    )
    known = read_original_names(task.root_in)
    names = {c.path: known[c.path] for c in candidates if c.path in known}
    workers = machine.workers
    return CandidateJob(task, settings, candidates, repeated, predictor, journal, workers, names)


def shard_batches(candidates: int, batch_size: int) -> int:
    """Return the batches of a shard on a GPU: of a small task few, so that many GPUs have work.

    The same for any number of GPUs, as batches end with shards: no number may depend on it. A
    killed task repeats up to a shard, and the last batches of a shard are not full: 64 at most.
    """
    return min(max(candidates // (SHARDS * batch_size), 1), 64)


def identity_of(task: Task, candidates: Sequence[Candidate], where: str) -> str:
    """Return a digest of all that a task's numbers depend on: settings, candidates, weights,
    torch's version and the device `where` it runs; but not of the folder that all lie in.
    """
    settings = {
        kind: {key: v for key, v in asdict(own).items() if key not in WITHOUT_EFFECT}
        for kind, own in (("mining", task.mining), ("infer", task.infer))
        if own is not None
    }
    what = {"settings": settings, "device": where, "torch": torch.__version__}
    content = json.dumps([JOURNAL_FORMAT, what], sort_keys=True, default=str)
    digest = hashlib.sha256(content.encode())
    for name in names_below([candidate.path for candidate in candidates]):
        digest.update(b"\0" + name.encode("utf-8", "surrogatepass"))
    if task.needs_network:
        with task.weights[0].open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def is_outdated(candidates: Sequence[Candidate], record: Record) -> bool:
    """Whether a candidate is to be predicted again.

    So it is if its file lies elsewhere and is another one, or could not be read and now can: its
    folder may have been away for a time.
    """
    path = candidates[record.position].path
    if record.error is None:
        return path != record.path and content_mark(path) != record.mark
    try:
        read_image(path)
    except ImageError:
        return False
    return True


def run_candidates(
    task: Task, device: torch.device, progress: Progress, *, shared: CandidateJob | None = None
) -> None:
    """Mine, infer or both in one pass, and write the results; an interrupted task resumes.

    `shared` is a job whose shards ranks have just left on disk: a missing one is computed, and no
    unreadable image is tried again.
    """
    if shared:
        journal_of_ranks = replace(shared.journal, is_outdated=lambda record: False)
        job = replace(shared, journal=journal_of_ranks)
    else:
        job = prepare(task, device)
        job.log_description()
    began, total, predictor = time.monotonic(), len(job.candidates), job.predictor
    names = predictor.class_names if predictor else ()
    report = CandidateReport(names, mining=task.run_mining, infers=task.run_infer)
    unreadable = UnreadableImages(job.paths)
    ranking = Ranking([], [])
    with ExitStack() as stack:
        callbacks: list[OnImage] = [unreadable.add, report.add]
        if task.run_infer:
            writer = stack.enter_context(InferResultWriter(task))
            callbacks.append(partial(_write_detections, writer, job.candidates, names))
        journal = stack.enter_context(Journal(job.journal))

        def known(position: int) -> Record | None:
            record = journal.record(position)
            return None if record is None else job.here(record)

        records = _all_records(job, journal, callbacks)
        bar = progress_bar(records, "candidates", total=total)
        records = progress.follow(bar, total)
        if task.run_mining:
            ranking = _rank(job, records)
            with best_effort(EXPLANATIONS, log):
                path = job.journal.path.with_name(EXPLANATIONS)
                write_explanations(path, known, ranking, names, job.names)
        else:
            for _ in records:
                pass
        unreadable.check()
        replayed = journal.replayed
    if task.run_infer:
        log.info("detections written to %s", task.out.infer_result)
    if predictor and job.settings.plots:
        # Of all folders only this one outlives the task on the platform.
        report.write(
            task.out.tensorboard,
            lambda position: ranking.explained(known(position)),
            ranking=ranking if task.run_mining else None,
            about=_about(job, describe(device), time.monotonic() - began, replayed),
            sheets=job.journal.path.parent,
        )
        log.info("report: %s", task.out.tensorboard / PAGE)
    if predictor:
        log.info("summary: %s", report.summary())


def _all_records(
    job: CandidateJob, journal: Journal, callbacks: Sequence[OnImage]
) -> Iterator[Record]:
    """Yield the records of all candidates: replayed, then computed and appended."""
    for replayed in journal.replay():
        shard = list(map(job.here, replayed))
        for record in sorted(shard, key=lambda record: record.seen):
            for callback in callbacks:
                callback(record.prediction())
        yield from shard
    records = job.records(range(journal.replayed, len(job.candidates)), callbacks)
    yield from done_behind(records, journal.append)


def _rank(job: CandidateJob, records: Iterable[Record]) -> Ranking:
    """Rank all candidates and write `result.tsv`."""
    scored = (Scored.from_plain(one.position, one.path, one.scored or {}) for one in records)
    ranking = rank_images(scored, job.algorithm, job.context, job.paths, job.predictions)
    if any(score is not None for score in ranking.scores):
        rows = ((job.candidates[n].text, ranking.scores[n]) for n in ranking.order)
        write_mining_result(job.task, rows)
        log.info(
            "scores of %s written to %s",
            counted(len(job.candidates), "%s image", "%s images"),
            job.task.out.mining_result,
        )
        if job.predictor:
            log_ranking(ranking, job.paths, job.names)
    return ranking


def _about(job: CandidateJob, device: str, seconds: float, replayed: int) -> About:
    """Return what the report says of the task; `replayed` images were in its journal."""
    settings, count = job.task.mining or job.task.infer, len(job.candidates) - replayed
    time_told = [duration(seconds)]
    if count:
        time_told.append(f"{count / max(seconds, 1e-3):.1f} images/s")
    if replayed:
        time_told.append(
            counted(
                replayed,
                "%s image was in the journal of an earlier start",
                "%s images were in the journal of an earlier start",
            )
        )
    assert settings is not None
    return About(
        job.context.settings.mining_algorithm if job.task.run_mining else "",
        [
            ("weights", job.task.weights[0].name),
            ("image size", f"{job.settings.img_size} px"),
            ("device", device),
            ("time", "; ".join(time_told)),
        ],
        setting_rows(settings),
        job.names,
        job.settings.language,
    )


def _write_detections(
    writer: InferResultWriter,
    candidates: Sequence[Candidate],
    class_names: Sequence[str],
    prediction: Prediction,
) -> None:
    text = candidates[prediction.position].text
    if prediction.size is None:
        writer.add_empty(text)
    else:
        writer.add(text, prediction.detections, class_names, prediction.size)


class UnreadableImages:
    """Counter of the images that cannot be read, which names each in the log."""

    def __init__(self, paths: Sequence[str]) -> None:
        self._total, self._count = len(paths), 0
        self._present = available_sample(paths)

    def add(self, prediction: Prediction) -> None:
        """Count one image if it is unreadable."""
        if prediction.error is not None:
            self._count += 1
            log.warning("skipped %s: %s", prediction.path, prediction.error)

    def check(self) -> None:
        """Raise TaskError if images disappeared (DATASET) or none is readable (IMAGE_FORMAT)."""
        bad, total = self._count, self._total
        if not bad:
            return
        check_data_available(self._present, what="candidate images")
        if bad == total:
            raise TaskError(
                Code.IMAGE_FORMAT,
                f"no candidate image can be decoded ({total:,} listed): check that they are "
                "images.",
            )
        whole = counted(total, "%s image", "%s images")
        log.warning("%s of %s could not be read: ranked last", f"{bad:,}", whole)
