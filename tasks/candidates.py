"""Mining and inference tasks: one look at every candidate, and the results on disk."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from functools import partial

import torch

from data.index_file import Candidate
from data.sources import available_sample, check_data_available
from inference.journal import Journal
from inference.predictions import Prediction
from mining.explanations import write_explanations
from mining.registry import ALGORITHMS
from mining.scores import Scored, ScoringContext, counted, ranking
from reporting.candidate_report import CandidateReport
from tasks.going_on import OnImage, Stream
from tasks.looking import CandidateJob, is_readable_by_now, prepare
from utils.errors import Code, TaskError, best_effort
from utils.progress import Progress
from ymir.task import InferResultWriter, Task, write_mining_result

log = logging.getLogger(__name__)

EXPLANATIONS = "explanations.csv"


def run_candidates(
    task: Task, device: torch.device, progress: Progress, *, looked_at: bool = False
) -> None:
    """Mining, inference, or both in one pass: every image is decoded and first predicted once.

    What is known of an image goes to disk at once; the same task started again goes on there. With
    `looked_at` several processes have just left all of it on disk: what is missing nevertheless is
    done, and no image is tried again.
    """
    looking = prepare(task, device, shared=looked_at)
    if not looked_at:
        looking.announce()
    paths, candidates, predictor = looking.paths, looking.candidates, looking.predictor
    report = CandidateReport(
        predictor.class_names if predictor else (), len(paths), mining=task.run_mining
    )
    unreadable = Unreadable(paths)
    scores: Sequence[float | None] = ()
    with ExitStack() as stack:
        watchers: list[OnImage] = [unreadable.add, report.add]
        if task.run_infer:
            assert predictor is not None
            writer = stack.enter_context(InferResultWriter(task))
            watchers.append(partial(_write, candidates, writer, predictor.class_names))
        known = stack.enter_context(
            Journal(
                looking.known,
                identity=looking.identity,
                section=looking.section,
                total=len(paths),
                outdated=(lambda entry: False) if looked_at else is_readable_by_now,
            )
        )
        stream = Stream(known, watchers)
        if task.run_mining:
            scores = _mine(looking, stream, report, progress)
            with best_effort(EXPLANATIONS, log):
                names = predictor.class_names if predictor else ()
                write_explanations(known.path.with_name(EXPLANATIONS), known, scores, names)
        else:
            for done, _ in enumerate(stream.seen(looking.found_from), start=1):
                progress.update(done, len(paths))
        unreadable.check()
    if task.run_infer:
        log.info("detections written to %s", task.out.infer_result)
    if predictor and looking.settings.plots:
        # Of all folders only this one outlives the task on the platform.
        report.write(
            task.out.tensorboard,
            ranking=ranking(scores),
            scores=scores,
            known=known.entry,
            sheets=known.path.parent,
        )
    if predictor:
        log.info("summary: %s", report.summary())


def _mine(
    looking: CandidateJob, stream: Stream, report: CandidateReport, progress: Progress
) -> Sequence[float | None]:
    task, total = looking.task, len(looking.paths)
    settings = task.mining
    assert settings is not None

    def rest(first: int) -> Iterator[Scored]:
        return looking.scores(range(first, total), stream.watch)

    scores: list[float | None] = [None] * total
    known = counted(stream.scores(rest), total, progress.update)
    algorithm = ALGORITHMS[settings.mining_algorithm]
    for scored in algorithm.rank(known, ScoringContext(looking.predictor, settings, total)):
        scores[scored.position] = scored.score
        report.scored(scored.position, scored.score)
    if any(score is not None for score in scores):
        texts = [candidate.text for candidate in looking.candidates]
        write_mining_result(task, zip(texts, scores, strict=True))
        log.info("scores of %d images written to %s", total, task.out.mining_result)
    return scores


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
        self._there = available_sample(paths)
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
            check_data_available(self._there, what="candidate images")
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
