"""The kinds of YMIR task: from a `Task` to results on disk."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from data.read_dataset import read_dataset
from evaluation.tables import data_table
from inference.journal import count_shard_files
from tasks.candidates import journal_path, run_candidates, run_shards
from tasks.log_header import header, settings_line
from training.checkpoints import SavedCheckpoint
from training.job import TrainingJob
from training.loop import train
from utils.device import describe, gpu_of_rank, select_device, visible_gpus
from utils.distributed import SINGLE_PROCESS, DistContext
from utils.errors import Code, TaskError
from utils.launch import launch, launch_until_done
from utils.logs import duration
from utils.progress import Progress
from ymir.results import SavedFiles
from ymir.task import (
    ModelStage,
    Task,
    stage_folder,
    write_training_result,
)
from ymir.weight_download import download_weights
from ymir.weights import SCRATCH, check_download

log = logging.getLogger(__name__)

ALMOST_ALL = 0.99
"""Progress while anything is still to be written; 1 means that all of it is on disk."""
PREDICTED = 0.9
"""Progress when several ranks have predicted all candidates, and one process merges them."""
REPORT = "report"
"""Folder and section of the pictures and tables that go with a model."""


def processes_for(task: Task) -> int:
    """How many processes do the task: one for each GPU that was granted and is there.

    A training has fewer if they cannot share its batches equally: as many as can.
    """
    settings = task.train
    granted = visible_gpus(task.gpu_ids) if task.gpu_ids else []
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
        log.warning(
            "note: batch_size %d cannot be shared by %d GPUs: training on %d",
            settings.batch_size,
            gpus,
            count,
        )
    return count


def run(task: Task, progress: Progress, processes: DistContext = SINGLE_PROCESS) -> None:
    """Do what the task asks for; results are complete on disk when this returns.

    Only a training may be run by several processes. Raises TaskError(CONFIG) if another is.
    """
    if processes.is_distributed and not task.run_training:
        raise TaskError(
            Code.CONFIG,
            "torchrun is for trainings; start a mining or an inference as python start.py: it "
            "starts a process for each GPU in gpu_id itself.",
        )
    began = time.monotonic()
    device = _begin(task, processes)
    with progress.stage(ALMOST_ALL) as part:
        if task.run_training:
            with processes.process_group(device):
                run_training(task, device, part, processes)
        elif task.run_mining or task.run_infer:
            run_candidates(task, device, part)
        else:
            raise TaskError(
                Code.CONFIG,
                "env.yaml has nothing to run: set one of run_training, run_mining or run_infer to "
                "true.",
            )
    progress.update(1, 1)
    log.info("finished in %s", duration(time.monotonic() - began))


def run_share(task: Task, progress: Progress, processes: DistContext) -> None:
    """What one of the processes of `run_in_processes` does."""
    if task.run_training:
        run(task, progress, processes)
        return
    with progress.stage(PREDICTED) as part:
        run_shards(task, _begin(task, processes), processes, part)


def _begin(task: Task, processes: DistContext) -> torch.device:
    """The device of this process; what runs there stands at the head of the log."""
    device = select_device(gpu_of_rank(task.gpu_ids if task.needs_network else (), processes))
    log.info("%s", header(task.task_id, describe(device)))
    kinds = {"training": task.train, "mining": task.mining, "infer": task.infer}
    for kind, settings in kinds.items():
        for line in settings_line(kind, settings):
            log.info("%s", line)
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
    """Do the task in `count` processes of `program`, which calls `run_share`.

    In a mining or an inference one that is killed is replaced, and only what it was at is done
    again. `reload` is called when they have ended, before progress is told again.
    """
    progress.update(0, 1)
    if task.run_training:
        launch(count, program)
        return
    began = time.monotonic()
    what = "mining" if task.run_mining else "inference"
    journal = journal_path(task)
    launch_until_done(
        count,
        program,
        done=lambda: count_shard_files(journal),
        what=what,
        advice="lower batch_size or workers",
    )
    reload()
    with progress.stage(PREDICTED):
        log.info("merging the %s of %d processes", what, count)
    with progress.stage(ALMOST_ALL - PREDICTED) as part:
        gpus = visible_gpus(task.gpu_ids)[:1] if task.needs_network and task.gpu_ids else ()
        run_candidates(task, select_device(gpus), part, precomputed=True)
    progress.update(1, 1)
    log.info("finished in %s", duration(time.monotonic() - began))


def can_be_shared(
    task: Task,
    gpus: Sequence[int],
    *,
    kind: Callable[[torch.device], str] = describe,
) -> bool:
    """Whether several ranks may predict the candidates, one on each of these GPUs.

    If not, the log says why.
    """
    kinds = {kind(torch.device("cuda", number)) for number in gpus} if task.needs_network else set()
    if len(kinds) > 1:
        log.warning(
            "note: the GPUs differ (%s), and so would their numbers: this task computes on one",
            ", ".join(sorted(kinds)),
        )
    return len(kinds) < 2


def run_training(
    task: Task, device: torch.device, progress: Progress, processes: DistContext = SINGLE_PROCESS
) -> None:
    """Train, and report the best and the last weights after every improvement."""
    settings = task.train
    assert settings is not None
    assert task.train_index is not None
    assert task.val_index is not None
    weights = starting_weights(task) if processes.is_main else None
    processes.broadcast(0)  # what was downloaded is there now
    weights = weights if processes.is_main else starting_weights(task)
    splits, reports = [], []
    for index_file in (task.train_index, task.val_index):
        with progress.stage(0.025) as part:
            split, report = read_dataset(
                index_file,
                task.class_names,
                root=task.root_in,
                max_bad_fraction=settings.max_bad_fraction,
                progress=part,
            )
        if troubles := report.lines()[1:]:
            log.info("%s:\n%s", index_file, "\n".join(troubles))
        splits.append(split)
        reports.append(report)
    log.info("\n%s", data_table(("train", "val"), splits, reports))
    stages: dict[str, ModelStage] = {}
    chosen = SavedFiles(settings.ymir_saved_file_patterns)
    report_folder = task.out.models / "attachments" / REPORT

    def record(saved: SavedCheckpoint) -> None:
        stages[saved.stage] = _stage(saved, settings.map_metric, chosen)
        stages.pop(saved.replaces, None)
        write_training_result(
            task,
            list(stages.values()),
            best="best",
            attachments={REPORT: sorted(path.name for path in report_folder.glob("[!.]*"))},
            evaluate_config={"iou_thr": 0.5, "conf_thr": settings.report_conf},
        )

    job = TrainingJob(
        settings=settings,
        train=splits[0],
        validation=splits[1],
        device=device,
        folder=report_folder,
        tensorboard=task.out.tensorboard,
        weights=weights,
        reports=reports,
        stage_folder=lambda stage: stage_folder(task, stage),
        on_saved=record,
        processes=processes,
    )
    with progress.stage(0.95) as part:
        best = train(job, part)
    if best:
        log.info("%s", _summary(best, settings.map_metric, task.out.training_result))


def _summary(best: SavedCheckpoint, metric: str, result: Path) -> str:
    scores = best.evaluation.scores
    shown = "mAP50" if metric == "map50" else "mAP50-95"
    return (
        f"summary: best epoch {best.epoch + 1}, P {scores.precision:.3f}, R {scores.recall:.3f}, "
        f"mAP50 {scores.map50:.3f}, mAP50-95 {scores.map50_95:.3f} ({shown} is what the platform "
        f"is told); {', '.join(path.name for path in best.files)} in {best.files[0].parent}, "
        f"listed in {result}"
    )


def starting_weights(task: Task) -> Path | None:
    """The weights that a training starts from, downloaded if the task asks for that."""
    settings = task.train
    assert settings is not None
    if task.weights:
        return task.weights[0]
    if not settings.download_weights or settings.weights.lower() == SCRATCH:
        return None
    name, digest = check_download(settings.model, settings.weights_sha256)
    folders = [Path(settings.weights_dir)] if settings.weights_dir else []
    return download_weights(name, digest, [*folders, task.out.root / "weights"])


def _stage(saved: SavedCheckpoint, metric: str, chosen: SavedFiles) -> ModelStage:
    """What the platform shows of a saved model: its mAP, and counts at one confidence."""
    shown, scores = saved.evaluation.at_confidence, saved.evaluation.scores
    return ModelStage(
        name=saved.stage,
        files=chosen.of(path.name for path in saved.files),
        timestamp=int(time.time()),
        mean_ar=shown.recall,
        mean_ap=scores.map50 if metric == "map50" else scores.map50_95,
        tp=shown.true_positives,
        fp=shown.false_positives,
        fn=shown.false_negatives,
    )
