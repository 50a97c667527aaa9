"""A YMIR training task: read the data, train, and write the result after every improvement."""

from __future__ import annotations

import logging
import shlex
import time
from pathlib import Path

import torch

from data.index_file import read_original_names
from data.read_dataset import read_dataset
from evaluation.tables import data_table
from training.checkpoints import SavedCheckpoint
from training.job import TrainingJob
from training.loop import train
from utils.distributed import SINGLE_PROCESS, DistContext
from utils.official_weights import SCRATCH
from utils.progress import Progress
from ymir.results import ModelStage, SavedFiles, write_training_result
from ymir.task_types import Task, stage_folder
from ymir.weight_download import download_weights
from ymir.weights import check_download

log = logging.getLogger(__name__)

REPORT = "report"
"""Folder and section of a model's attachments: figures and tables."""


def run_training(
    task: Task, device: torch.device, progress: Progress, processes: DistContext = SINGLE_PROCESS
) -> None:
    """Train, and write `result.yaml` with the best and last weights after every improvement."""
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
        if problems := report.lines()[1:]:
            log.info("%s:\n%s", index_file, "\n".join(problems))
        splits.append(split)
        reports.append(report)
    log.info("\n%s", data_table(("train", "val"), splits, reports, language=settings.language))
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

    env = task.root_in / "env.yaml"
    job = TrainingJob(
        settings=settings,
        train=splits[0],
        validation=splits[1],
        device=device,
        folder=report_folder,
        tensorboard=task.out.tensorboard,
        weights=weights,
        names=read_original_names(task.root_in),
        reports=reports,
        command=shlex.join(["python", "start.py", "--env", str(env)]) if env.is_file() else "",
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
        f"shows); {', '.join(path.name for path in best.files)} in {best.files[0].parent}, "
        f"listed in {result}"
    )


def starting_weights(task: Task) -> Path | None:
    """Return the pretrained weights, downloaded if the task asks for that; None for none."""
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
    """Return the stage of a saved checkpoint: mAP, and counts at one confidence threshold."""
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
