"""Mining and inference tasks: one look at every candidate, and the results on disk."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from functools import partial
from pathlib import Path

import torch

from infer import Predictor, load_predictor
from mining.algorithms import ALGORITHMS
from mining.explanations import write_explanations
from mining.going_on import Stream, Watcher
from mining.mining_random import unseen_images
from mining.scored import Scored, counted
from utils.by_product import by_product
from utils.candidate_log import CandidateLog, Entry, digest_of
from utils.candidate_report import CandidateReport
from utils.config import DetectionSettings
from utils.device import describe
from utils.errors import Code, TaskError
from utils.images import ImageError, read_image
from utils.labels import Candidate, read_candidates
from utils.lost_files import refuse_lost, still_there
from utils.predictions import Prediction, whole_images
from utils.progress import Progress
from utils.ymir_yolov5 import InferResultWriter, Task, write_mining_result

log = logging.getLogger(__name__)

KNOWN = "known.jsonl"
EXPLANATIONS = "explanations.csv"
UNSEEN_SECTION = 256
CHANGES_NO_NUMBER = frozenset({"args_options", "plots", "workers"})
"""Settings that may differ when a task goes on; what `args_options` says counts by its settings."""


def run_candidates(task: Task, device: torch.device, progress: Progress) -> None:
    """Mining, inference, or both in one pass: every image is decoded and first predicted once.

    What is known of an image goes to disk at once; the same task started again goes on there.
    """
    settings = task.infer or task.mining
    assert settings is not None
    assert task.candidate_index is not None
    candidates, repeated = read_candidates(task.candidate_index, task.root_in)
    if repeated:
        log.warning("%d lines of the candidate index repeat an image; each counts once", repeated)
    paths = [candidate.path for candidate in candidates]
    predictor, weights = None, None
    if task.needs_network:
        weights = task.weights[0]
        predictor = load_predictor(weights, settings, device)
        predictor.section = section_size(settings.batch_size, predictor.lanes.count, device)
        _compare_names(task, predictor, weights)
        predictor.use_engine(settings.engine, paths, batch_size=settings.batch_size)
        size = predictor.image_size
        log.info("%d candidates, weights %s, %d px", len(paths), weights, size)
    else:
        log.info("%d candidates, no network is needed", len(paths))
    section = predictor.section if predictor else UNSEEN_SECTION
    report = CandidateReport(
        predictor.class_names if predictor else (), len(paths), mining=task.run_mining
    )
    unreadable = Unreadable(paths)
    scores: Sequence[float | None] = ()
    with ExitStack() as stack:
        watchers: list[Watcher] = [unreadable.add, report.add]
        if task.run_infer:
            assert predictor is not None
            writer = stack.enter_context(InferResultWriter(task))
            watchers.append(partial(_write, candidates, writer, predictor.class_names))
        known = stack.enter_context(
            CandidateLog(
                task.out.root / ("mining" if task.run_mining else "infer") / KNOWN,
                identity=identity_of(task, candidates, weights, device),
                section=section,
                total=len(paths),
                outdated=is_readable_by_now,
            )
        )
        stream = Stream(known, watchers)
        if task.run_mining:
            scores = _mine(task, predictor, candidates, stream, report, progress)
            with by_product(EXPLANATIONS, log):
                names = predictor.class_names if predictor else ()
                write_explanations(known.path.with_name(EXPLANATIONS), known, scores, names)
        else:
            assert predictor is not None
            rest = partial(_whole, predictor, paths, settings)
            for done, _ in enumerate(stream.seen(rest), start=1):
                progress.update(done, len(paths))
        unreadable.check()
    if task.run_infer:
        log.info("detections written to %s", task.out.infer_result)
    if predictor and settings.plots:
        # Of all folders only this one outlives the task on the platform.
        report.write(
            task.out.tensorboard, scores=scores, known=known.entry, sheets=known.path.parent
        )
    if predictor:
        log.info("summary: %s", report.summary())


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
    task: Task, candidates: Sequence[Candidate], weights: Path | None, device: torch.device
) -> str:
    """A digest of all that the numbers of a task depend on; '' if its scores need each other."""
    if task.mining and not ALGORITHMS[task.mining.mining_algorithm].separate:
        return ""
    kinds = {"mining": task.mining, "infer": task.infer}
    settings = {
        kind: {k: v for k, v in asdict(own).items() if k not in CHANGES_NO_NUMBER}
        for kind, own in kinds.items()
        if own is not None
    }
    what = {"settings": settings, "device": describe(device), "torch": torch.__version__}
    texts = [text for one in candidates for text in (one.text, one.path)]
    return digest_of(what, texts, weights)


def _mine(
    task: Task,
    predictor: Predictor | None,
    candidates: Sequence[Candidate],
    stream: Stream,
    report: CandidateReport,
    progress: Progress,
) -> Sequence[float | None]:
    settings = task.mining
    assert settings is not None
    looking = task.infer or settings
    paths = [candidate.path for candidate in candidates]
    algorithm = ALGORITHMS[settings.mining_algorithm]

    def rest(first: int) -> Iterator[Scored]:
        if predictor is None:
            parts = unseen_images(paths, workers=looking.workers, first=first)
        else:
            parts = predictor.stream_parts(
                paths,
                batch_size=looking.batch_size,
                workers=looking.workers,
                keep_views=True,
                first=first,
            )
        watched = _seen_whole(parts, predictor, stream.watch)
        return algorithm.scores(watched, predictor, settings, len(paths))

    scores: list[float | None] = [None] * len(paths)
    known = counted(stream.scores(rest), len(paths), progress.update)
    for scored in algorithm.ranked(known, predictor, settings, len(paths)):
        scores[scored.position] = scored.score
        report.scored(scored.position, scored.score)
    if any(score is not None for score in scores):
        texts = [candidate.text for candidate in candidates]
        write_mining_result(task, zip(texts, scores, strict=True))
        log.info("scores of %d images written to %s", len(scores), task.out.mining_result)
    return scores


def _whole(
    predictor: Predictor, paths: Sequence[str], settings: DetectionSettings, first: int
) -> Iterator[Prediction]:
    parts = predictor.stream_parts(
        paths, batch_size=settings.batch_size, workers=settings.workers, first=first
    )
    return whole_images(parts, predictor.gathering())


def _seen_whole(
    parts: Iterable[Prediction], predictor: Predictor | None, watch: Watcher
) -> Iterator[Prediction]:
    """Pass parts of images on; an image whose last part came is shown to the watcher first."""
    gathering = predictor.gathering() if predictor else None
    for part in parts:
        whole = gathering.add(part) if gathering else part
        if whole is not None:
            watch(whole)
        yield part


def _write(
    candidates: Sequence[Candidate],
    writer: InferResultWriter,
    class_names: Sequence[str],
    prediction: Prediction,
) -> None:
    text = candidates[prediction.position].text
    if prediction.size is None:
        writer.add_empty(text)
    else:
        writer.add(text, prediction.detections, class_names, prediction.size)


class Unreadable:
    """Names the images that cannot be read, as they are added, and counts them."""

    def __init__(self, paths: Sequence[str]) -> None:
        self._total = len(paths)
        self._there = still_there(paths)
        self._count = 0

    def add(self, prediction: Prediction) -> None:
        """Note one image if it cannot be read."""
        if prediction.error is not None:
            self._count += 1
            log.warning("skipped %s: %s", prediction.path, prediction.error)

    def check(self) -> None:
        """Raise TaskError if there is nothing else (IMAGE_FORMAT), or if the images have
        disappeared meanwhile (DATASET).
        """
        if self._count:
            refuse_lost(self._there, what="candidate images")
        if self._count == self._total:
            raise TaskError(
                Code.IMAGE_FORMAT,
                f"none of the {self._total} candidate images can be decoded: check that they are "
                "images.",
            )
        if self._count:
            log.warning(
                "%d of %d images could not be read; they stand last", self._count, self._total
            )


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
