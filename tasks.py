"""The kinds of YMIR task: from a `Task` to results on disk."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import torch

from infer import Predictor, load_predictor
from mining.algorithms import ALGORITHMS
from mining.mining_random import unseen_images
from train import Saved, TrainingJob, take_part
from utils.candidate_report import CandidateReport
from utils.data_table import data_table
from utils.device import describe, own_gpu, present, select_device
from utils.distributed import ALONE, Processes
from utils.errors import Code, TaskError
from utils.labels import Candidate, read_candidates, read_dataset
from utils.log_header import header, settings_line
from utils.log_pace import duration
from utils.lost_files import refuse_lost, still_there
from utils.predictions import Prediction, whole_images
from utils.progress import Progress
from utils.saved_files import SavedFiles
from utils.weight_download import download_weights
from utils.weight_files import SCRATCH, check_download
from utils.ymir_yolov5 import (
    InferResultWriter,
    ModelStage,
    Task,
    stage_folder,
    write_mining_result,
    write_training_result,
)

log = logging.getLogger(__name__)

Watcher = Callable[[Prediction], object]
"""Told of each image, once all of it has been looked at."""

ALMOST_ALL = 0.99
"""Progress while anything is still to be written; 1 means that all of it is on disk."""
REPORT = "report"
"""Folder and section of the pictures and tables that go with a model."""


def processes_for(task: Task) -> int:
    """How many processes train: one for each GPU that was granted and is there, if they can share
    the batches equally, else as many as can.
    """
    settings = task.train
    gpus = len(present(task.gpu_ids)) if task.run_training and task.gpu_ids else 1
    if settings is None or gpus < 2:
        return 1
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


def run(task: Task, progress: Progress, processes: Processes = ALONE) -> None:
    """Do what the task asks for; results are complete on disk when this returns.

    Only a training may be run by several processes.
    """
    device = select_device(own_gpu(task.gpu_ids if task.needs_network else (), processes))
    began = time.monotonic()
    log.info("%s", header(task.task_id, describe(device)))
    kinds = {"training": task.train, "mining": task.mining, "infer": task.infer}
    for kind, settings in kinds.items():
        for line in settings_line(kind, settings):
            log.info("%s", line)
    for warning in task.warnings:
        log.warning("note: %s", warning)
    with progress.stage(ALMOST_ALL) as part:
        if task.run_training:
            with processes.joined(device):
                run_training(task, device, part, processes)
        elif task.run_mining or task.run_infer:
            run_candidates(task, device, part)
        else:
            raise TaskError(
                Code.CONFIG,
                "env.yaml asks for nothing: set one of run_training, run_mining or run_infer to "
                "true.",
            )
    progress.update(1, 1)
    log.info("finished in %s", duration(time.monotonic() - began))


def run_training(
    task: Task, device: torch.device, progress: Progress, processes: Processes = ALONE
) -> None:
    """Train, and report the best and the last weights after every improvement."""
    settings = task.train
    assert settings is not None
    assert task.train_index is not None
    assert task.val_index is not None
    weights = starting_weights(task) if processes.first else None
    processes.first_says(0)  # what was downloaded is there now
    weights = weights if processes.first else starting_weights(task)
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

    def record(saved: Saved) -> None:
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
        best = take_part(job, part)
    if best:
        log.info("%s", _summary(best, settings.map_metric, task.out.training_result))


def _summary(best: Saved, metric: str, result: Path) -> str:
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


def _stage(saved: Saved, metric: str, chosen: SavedFiles) -> ModelStage:
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


def run_candidates(task: Task, device: torch.device, progress: Progress) -> None:
    """Mining, inference, or both in one pass: every image is decoded and first predicted once."""
    settings = task.infer or task.mining
    assert settings is not None
    assert task.candidate_index is not None
    candidates, repeated = read_candidates(task.candidate_index, task.root_in)
    if repeated:
        log.warning("%d lines of the candidate index repeat an image; each counts once", repeated)
    paths = [candidate.path for candidate in candidates]
    if not task.needs_network:
        log.info("%d candidates, no network is needed", len(paths))
        unseen = _count(unseen_images(paths, workers=settings.workers), paths)
        _mine(task, None, candidates, unseen, None, progress)
        return
    predictor = load_predictor(task.weights[0], settings, device)
    _compare_names(task, predictor, task.weights[0])
    log.info("%d candidates, weights %s, %d px", len(paths), task.weights[0], predictor.image_size)
    found = predictor.stream_parts(
        paths,
        batch_size=settings.batch_size,
        workers=settings.workers,
        keep_views=task.run_mining,
    )
    report = CandidateReport(predictor.class_names, len(paths), mining=task.run_mining)
    parts = _count(found, paths)
    with ExitStack() as stack:
        watchers: list[Watcher] = [report.add]
        if task.run_infer:
            writer = stack.enter_context(InferResultWriter(task))
            watchers.append(partial(_write, candidates, writer, predictor.class_names))
        if task.run_mining:
            seen = _seen_whole(parts, predictor, watchers)
            _mine(task, predictor, candidates, seen, report, progress)
        else:
            for done, whole in enumerate(whole_images(parts, predictor.gathering()), start=1):
                for watch in watchers:
                    watch(whole)
                progress.update(done, len(paths))
    if task.run_infer:
        log.info("detections written to %s", task.out.infer_result)
    if settings.plots:
        # Of all folders only this one outlives the task on the platform.
        report.write(task.out.tensorboard)
    log.info("summary: %s", report.summary())


def _mine(
    task: Task,
    predictor: Predictor | None,
    candidates: Sequence[Candidate],
    predictions: Iterable[Prediction],
    report: CandidateReport | None,
    progress: Progress,
) -> None:
    assert task.mining is not None
    scores: list[float | None] = [None] * len(candidates)
    algorithm = ALGORITHMS[task.mining.mining_algorithm]
    stream = algorithm(predictions, predictor, task.mining, len(candidates))
    for done, scored in enumerate(stream, start=1):
        scores[scored.position] = scored.score
        if report:
            report.scored(scored.position, scored.score)
        progress.update(done, len(candidates))
    texts = [candidate.text for candidate in candidates]
    write_mining_result(task, zip(texts, scores, strict=True))
    log.info("scores of %d images written to %s", len(scores), task.out.mining_result)


def _seen_whole(
    parts: Iterable[Prediction], predictor: Predictor, watchers: Sequence[Watcher]
) -> Iterator[Prediction]:
    """Pass parts of images on; an image whose last part came is shown to the watchers first."""
    gathering = predictor.gathering()
    for part in parts:
        whole = gathering.add(part)
        if whole is not None:
            for watch in watchers:
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


def _count(predictions: Iterable[Prediction], paths: Sequence[str]) -> Iterator[Prediction]:
    """Pass predictions on; name the unreadable images, and fail if there is nothing else, or if
    the images disappear.
    """
    unreadable, total, there = 0, len(paths), still_there(paths)
    for prediction in predictions:
        if prediction.error is not None:
            unreadable += 1
            log.warning("skipped %s: %s", prediction.path, prediction.error)
        yield prediction
    if unreadable:
        refuse_lost(there, what="candidate images")
    if unreadable == total:
        raise TaskError(
            Code.IMAGE_FORMAT,
            f"none of the {total} candidate images can be decoded: check that they are images.",
        )
    if unreadable:
        log.warning("%d of %d images could not be read; they stand last", unreadable, total)


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
