"""Train a detector: on a data.yaml with v7.0's flags, or on YMIR index files.

    python train.py --data data.yaml --cfg yolov5n --img 320 --batch-size 16 --epochs 100
    python train.py --train task/in/train-index.tsv --val task/in/val-index.tsv \
        --class-names WBC RBC Platelets --output runs/cells model=yolov5n img_size=320 epochs=100
    torchrun --nproc-per-node 2 train.py ...    # the same on two GPUs
"""

from __future__ import annotations

if __name__ == "__main__":
    from cli.parsers import train_parser
    from utils.shutdown import listen_for_interrupts

    listen_for_interrupts()  # before the seconds that the imports take
    train_parser().read()  # so that help and a mistyped flag do not wait for them either

import logging
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import torch

from cli.options import as_typed, language_of, log_next
from cli.train import TrainCommand, parse_train_command
from reporting.page import PAGE
from training.job import TrainingJob
from training.loop import train
from utils.command import resumed_by, run_command
from utils.device import describe, parse_device
from utils.distributed import SINGLE_PROCESS, DistContext
from utils.logs import log_to_console
from utils.official_weights import OFFICIAL, missing_weights
from utils.progress import Progress
from utils.shutdown import exit_process
from ymir.weight_download import download_weights
from ymir.weights import check_download

log = logging.getLogger(__name__)


def main(arguments: Sequence[str] | None = None) -> None:
    """Train without YMIR."""
    processes = DistContext.from_environment()
    log_to_console(quiet=not processes.is_main, language=language_of(arguments))
    command = parse_train_command(arguments)
    device = parse_device(command.device, processes)
    with processes.process_group(device), ExitStack() as stack:
        words = sys.argv[1:] if arguments is None else arguments
        job = build_job(command, device, processes, stack)
        job = replace(job, command=as_typed("python", "train.py", *words))
        with resumed_by(lambda: resume_command(job, command)):
            best = train(job, Progress())
    if best:
        tell_results(job, command, best.files[0])


def tell_results(job: TrainingJob, command: TrainCommand, weights: Path) -> None:
    """Log where everything is, and the commands that come next."""
    log.info("results: %s", job.folder)
    if (job.folder / PAGE).is_file():
        log.info("report: %s", job.folder / PAGE)
    log.info("best weights: %s", weights)
    data: tuple[object, ...] = ("--index", *command.data.index_files[1:])
    if command.data.description is not None:
        data = ("--data", command.data.description)
    shared = ("--weights", weights, "--imgsz", job.settings.img_size)
    single = ("--single-cls",) if job.settings.single_cls else ()
    log_next("evaluate", "python", "val.py", *shared, *data, *single)
    log_next("detect", "python", "detect.py", *shared, "--source", "IMAGES")


def has_begun(folder: Path) -> bool:
    """Return whether a run folder has weights, or pictures of the first step."""
    return any(folder.rglob("*.pt")) or any(folder.glob("train_batch*"))


def build_job(
    command: TrainCommand, device: torch.device, processes: DistContext, stack: ExitStack
) -> TrainingJob:
    """Read the data set, and on rank 0 open the run folder until the `stack` ends."""
    log.info("%s", describe(device))
    check_weights(command, processes)
    (train_index, validation), reports = command.data.read(command.settings.max_bad_fraction)
    folder = stack.enter_context(command.run.opened(has_begun)) if processes.is_main else None
    folder = Path(processes.broadcast_text(str(folder)))
    if processes.is_main:
        command.write_options(folder)
    return TrainingJob(
        settings=command.settings,
        train=train_index,
        validation=validation,
        device=device,
        folder=folder,
        stage_folder=lambda stage: command.stage_folder(folder, stage),
        tensorboard=folder / "tensorboard",
        weights=command.weights,
        reports=reports,
        processes=processes,
    )


def resume_command(job: TrainingJob, command: TrainCommand) -> str:
    """Return the command that goes on with a training that was stopped; '' before its first epoch.

    It names the data once more where a run folder does not keep them.
    """
    if not job.state_file.is_file():
        return ""
    last = str(job.state_file.with_suffix(".pt"))
    if command.data.description is None:
        words = [word for word in sys.argv[1:] if not word.startswith("resume=")]
        return as_typed("python", "train.py", *words, f"resume={last}")
    return as_typed("python", "train.py", "--resume", last)


def check_weights(command: TrainCommand, processes: DistContext = SINGLE_PROCESS) -> None:
    """Raise TaskError(MODEL) without the weight file, unless `download_weights` fetches it."""
    path, settings = command.weights, command.settings
    if path is None:
        if settings.download_weights:
            log.warning("note: download_weights has no effect: --weights names no file to fetch")
        return
    if settings.download_weights and path.name in OFFICIAL:
        if processes.is_main and not path.is_file():
            name, digest = check_download(path.stem, settings.weights_sha256)
            download_weights(name, digest, [path.parent])
        processes.broadcast_text("")  # the other ranks wait for the file
    if not path.is_file():
        raise missing_weights(path, training=True)


if __name__ == "__main__":
    exit_process(run_command(main))
