"""Run a YMIR task of any kind, in one process or one for each GPU."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence

import torch

from inference.journal import count_shard_files
from tasks.candidates import journal_path, prepare, run_candidates
from tasks.log_header import header, settings_line
from tasks.shared import run_shards
from tasks.training import run_training
from utils.device import describe, gpu_of_rank, select_device, visible_gpus
from utils.distributed import SINGLE_PROCESS, DistContext
from utils.launch import launch, launch_until_done
from utils.logs import duration
from utils.progress import Progress
from ymir.task_types import Task

log = logging.getLogger(__name__)

ALMOST_ALL = 0.99
"""Progress until all results are on disk."""
PREDICTED = 0.9
"""Progress when several ranks have predicted all candidates, and one process merges them."""


def processes_for(task: Task) -> int:
    """Return the number of ranks: one for each GPU that is granted and visible.

    A training has as many as divide its batch size.
    """
    settings = task.train
    granted = visible_gpus(task.gpu_ids)
    gpus = len(granted)
    if gpus < 2:
        return 1
    if settings is None:
        return gpus if can_be_shared(task, granted) else 1
    if settings.batch_size < 1 or settings.image_weights:
        log.warning("note: batch_size -1 and image_weights train on one GPU")
        return 1
    count = max(n for n in range(1, gpus + 1) if settings.batch_size % n == 0)
    if count < gpus:
        words = "note: batch_size %d cannot be shared by %d GPUs: training on %d"
        log.warning(words, settings.batch_size, gpus, count)
    return count


def run(task: Task, progress: Progress, processes: DistContext = SINGLE_PROCESS) -> None:
    """Run the task; all results are on disk when this returns on rank 0."""
    began = time.monotonic()
    device = _begin(task, processes)
    with progress.stage(ALMOST_ALL) as part:
        if task.run_training:
            with processes.process_group(device):
                run_training(task, device, part, processes)
        elif processes.is_distributed:
            with part.stage(PREDICTED) as predicting:
                job = run_shards(task, device, processes, predicting)
            if processes.is_main:
                with part.stage(1 - PREDICTED) as merging:
                    run_candidates(task, device, merging, shared=job)
        else:
            run_candidates(task, device, part)
    progress.update(1, 1)
    log.info("finished in %s", duration(time.monotonic() - began))


def run_rank(task: Task, progress: Progress, processes: DistContext) -> None:
    """Run one rank of `run_in_processes`."""
    if task.run_training:
        run(task, progress, processes)
        return
    with progress.stage(PREDICTED) as part:
        run_shards(task, _begin(task, processes), processes, part)


def _begin(task: Task, processes: DistContext) -> torch.device:
    """Log the header, and return the device of this rank."""
    device = select_device(gpu_of_rank(task.gpu_ids if task.needs_network else (), processes))
    log.info("%s", header(task.task_id, describe(device)))
    kinds = {"training": task.train, "mining": task.mining, "infer": task.infer}
    for kind, settings in kinds.items():
        if settings is not None:
            log.info("%s", settings_line(kind, settings))
    for warning in task.warnings:
        log.warning("note: %s", warning)
    return device


def run_in_processes(
    task: Task,
    count: int,
    program: Sequence[str],
    progress: Progress,
    *,
    reload: Callable[[], object],
) -> None:
    """Run the task in `count` processes of `program`, which calls `run_rank`.

    Mining and inference restart when a process is killed, and only its shard is computed again.
    `reload` is called when all have ended, before progress is reported again.
    """
    progress.update(0, 1)
    if task.run_training:
        launch(count, program)
        return
    began = time.monotonic()
    what = "mining" if task.run_mining else "inference"
    launch_until_done(
        count,
        program,
        done=lambda: count_shard_files(journal_path(task)),
        what=what,
        advice="lower batch_size or workers",
    )
    reload()
    with progress.stage(PREDICTED):
        log.info("merging the %s of %d processes", what, count)
    with progress.stage(ALMOST_ALL - PREDICTED) as part:
        gpus = visible_gpus(task.gpu_ids)[:1] if task.needs_network and task.gpu_ids else ()
        device = select_device(gpus)
        run_candidates(task, device, part, shared=prepare(task, device, shared=True))
    progress.update(1, 1)
    log.info("finished in %s", duration(time.monotonic() - began))


def can_be_shared(task: Task, gpus: Sequence[int]) -> bool:
    """Return whether ranks on these GPUs give equal numbers; if not, the log says why."""
    kinds = {describe(torch.device("cuda", number)) for number in gpus if task.needs_network}
    if len(kinds) > 1:
        words = "note: the GPUs differ (%s), and so would their numbers: this task runs on one"
        log.warning(words, ", ".join(sorted(kinds)))
    return len(kinds) < 2
