"""Mining and inference by several ranks, on one machine or on several with one output folder."""

from __future__ import annotations

import logging
import shutil
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from data.sources import available_sample, check_data_available
from inference.journal import Record
from inference.shards import ShardWriter, failures
from tasks.candidates import CandidateJob, Machine, journal_path, prepare
from utils.classify_error import explain
from utils.distributed import DistContext
from utils.errors import TaskError, read_error_file, write_error_file
from utils.progress import Progress, progress_bar
from ymir.task_types import Task

log = logging.getLogger(__name__)

PAUSE = 0.5
"""Seconds between two looks for shards that other ranks compute."""
FOLDER_SEEN = 60.0
"""Seconds until a new file shows on another machine, at most."""


def run_shards(
    task: Task, device: torch.device, processes: DistContext, progress: Progress
) -> CandidateJob:
    """Predict shards together with all other ranks until every one is on disk.

    `run_candidates` merges those of the returned job. Raises TaskError: CONFIG if the ranks would
    compute different numbers, DATASET if images disappear, and the error of a rank on another
    machine.
    """
    machine = Machine.of(device)  # before the ranks share it
    with processes.process_group(device):
        if processes.is_main:
            shutil.rmtree(failures(journal_path(task)), ignore_errors=True)
        processes.broadcast(0)  # errors of an earlier start are gone
        with _common_errors(task, processes):
            job = prepare(task, device, processes, machine=machine, shared=True)
            writer = begin(job, processes)
    with _common_errors(task, processes):
        if processes.is_main:
            job.log_description()
        compute_shards(job, writer, progress)
        if processes.is_main:
            writer.end()
    return job


def begin(job: CandidateJob, processes: DistContext) -> ShardWriter:
    """Begin a start together with all ranks: its name voids the claims of earlier ones."""
    processes.assert_equal(
        int(job.journal.identity[:15], 16),
        "the processes would compute different numbers: the settings, candidates, weights, torch "
        "and the kind of GPU (on CPUs: the number of threads, OMP_NUM_THREADS) must be the same "
        "for each.",
    )
    processes.assert_equal(
        len(available_sample(job.paths)),
        "the processes find different numbers of candidate images ({numbers} of those looked at): "
        "the images must be there on every machine.",
    )
    name = processes.broadcast_text(uuid.uuid4().hex)
    writer = ShardWriter(
        job.journal, rank=processes.rank, world_size=processes.world_size, start=name
    )
    if processes.is_main:
        writer.begin()
    processes.broadcast(0)  # it has begun
    end = time.monotonic() + FOLDER_SEEN
    while not (found := writer.has_begun()) and time.monotonic() < end:
        time.sleep(PAUSE)
    processes.assert_equal(
        int(found),
        f"the folder {job.journal.path.parent} is not the same one for every process: on several "
        "machines the task's output folder must be shared.",
    )
    return writer


def compute_shards(job: CandidateJob, writer: ShardWriter, progress: Progress) -> None:
    """Compute what no other rank does until all shards are on disk."""
    present, unreadable, total = available_sample(job.paths), 0, len(job.candidates)

    def records() -> Iterator[Record]:
        while True:
            yield from job.records(writer.positions())
            if writer.is_complete():
                return
            time.sleep(PAUSE)
            progress.update(writer.look(), total)

    for record in progress_bar(records(), "candidates", total=total):
        writer.append(record)
        unreadable += record.error is not None
        progress.update(writer.look(), total)
    progress.update(1, 1)
    if unreadable:
        check_data_available(present, what="candidate images")


@contextmanager
def _common_errors(task: Task, processes: DistContext) -> Iterator[None]:
    """Leave this rank's error for those of other machines, or raise theirs if it was first.

    On one machine the launcher does so.
    """
    if processes.local_world_size == processes.world_size:
        yield
        return
    folder = failures(journal_path(task))
    try:
        yield
    except Exception as error:
        if first := read_error_file(folder):
            raise TaskError(first[0], first[1]) from error
        folder.mkdir(parents=True, exist_ok=True)
        write_error_file(*explain(error), "", folder)
        raise
