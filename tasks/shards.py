"""Mining and inference by several processes: each looks at the sections that it claims.

What they find lies then in files, a section each; `run_candidates` makes the results of it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence

import torch

from data.sources import available_sample, check_data_available
from inference.claims import ShardLocks
from inference.predictions import Prediction
from inference.section_parts import ShardWriter
from tasks.going_on import Writing
from tasks.looking import is_readable_by_now, prepare
from utils.device import describe
from utils.distributed import DistContext
from utils.progress import Progress
from ymir.task_types import Task

log = logging.getLogger(__name__)


def look(task: Task, device: torch.device, processes: DistContext, progress: Progress) -> None:
    """As one of several processes, look at candidates as long as there are unclaimed sections.

    Sections are claimed in their order, so the place where the first process is tells how far
    all are. Raises TaskError(DATASET) if the images disappear meanwhile.
    """
    looking = prepare(task, device, processes, shared=True)
    if processes.is_main:
        looking.announce()
    total = len(looking.paths)
    there = available_sample(looking.paths)
    unreadable = 0

    def watch(prediction: Prediction) -> None:
        nonlocal unreadable
        unreadable += prediction.error is not None

    with ShardWriter(
        looking.known,
        identity=looking.identity,
        section=looking.section,
        total=total,
        claim=ShardLocks.from_environment().take,
        outdated=is_readable_by_now,
    ) as parts:
        writing = Writing(parts.add, [watch], section=looking.section)
        if task.run_mining:
            scores = looking.scores(parts.positions(), writing.watch)
            done: Iterator[int] = (scored.position for scored in writing.scored(scores))
        else:
            done = writing.unscored(looking.found(parts.positions()))
        for position in done:
            progress.update(position + 1, total)
    if unreadable:
        check_data_available(there, what="candidate images")


def can_be_shared(
    task: Task,
    gpus: Sequence[int],
    *,
    kind: Callable[[torch.device], str] = describe,
) -> bool:
    """Whether several processes may look at the candidates, one on each of these GPUs.

    If not, the log says why.
    """
    kinds = {kind(torch.device("cuda", number)) for number in gpus} if task.needs_network else set()
    if len(kinds) > 1:
        log.warning(
            "note: the GPUs differ (%s), and so would their numbers: this task computes on one",
            ", ".join(sorted(kinds)),
        )
    return len(kinds) < 2
