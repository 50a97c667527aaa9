"""Whether a training's memory grows with time: epochs for as long as asked, measured one by one.

    python -m bench.memory --data path/to/bccd --minutes 60 --out runs/memory

Trains yolov5n with pictures kept in RAM and evaluates after every epoch, as a task does. After
each epoch the resident memory and the threads of this process go to `memory.csv`; the slope is
that of a straight line through the second half of the time. Linux only (/proc).
"""

from __future__ import annotations

import argparse
import csv
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bench.material import find_data
from data.read_dataset import read_dataset
from reporting.results_csv import CsvLogger
from reporting.tensorboard import TensorBoardLogger
from settings.parse import parse_settings
from settings.train import TrainSettings
from tools.make_task import write_task
from training.checkpoints import ModelCheckpoint
from training.loop import TrainingJob, prepare, train_and_evaluate
from utils.device import select_device
from utils.logs import log_to_console
from utils.progress import Progress

SETTINGS = {
    "model": "yolov5n",
    "img_size": 320,
    "batch_size": 16,
    "cache": "ram",
    "onnx": False,
    "plots": False,
    # More than any time will do, so that the learning rate stays where it is.
    "epochs": 100000,
}
MIB = 2**20


@dataclass(frozen=True)
class Sample:
    """One look at the process: seconds since the training began, MiB resident, threads."""

    epoch: int
    seconds: float
    resident: float
    threads: int


def resident_mib() -> float:
    """Resident memory of this process, from the second field of /proc/self/statm (pages)."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / MIB


def thread_number() -> int:
    """Threads of this process, Python's and those of libraries."""
    return len(list(Path("/proc/self/task").iterdir()))


def slope_per_hour(samples: Sequence[Sample]) -> float:
    """MiB an hour by which memory grew over the second half of the time (least squares).

    0 when that half has fewer than two samples.
    """
    if not samples:
        return 0.0
    middle = (samples[0].seconds + samples[-1].seconds) / 2
    late = [sample for sample in samples if sample.seconds >= middle]
    if len(late) < 2:
        return 0.0
    hours = np.array([sample.seconds for sample in late]) / 3600
    return float(np.polyfit(hours, [sample.resident for sample in late], 1)[0])


def summary(samples: Sequence[Sample]) -> str:
    """First, last and largest memory, the slope, and the threads at both ends."""
    first, last = samples[0], samples[-1]
    return (
        f"{len(samples)} epochs in {last.seconds / 60:.1f} min; resident memory in MiB: "
        f"first {first.resident:.0f}, last {last.resident:.0f}, "
        f"maximum {max(sample.resident for sample in samples):.0f}; "
        f"slope over the second half {slope_per_hour(samples):+.1f} MiB/h; "
        f"threads first {first.threads}, last {last.threads}"
    )


def epochs_until(deadline: float) -> Iterator[int]:
    """Epoch numbers from 0 until the monotonic clock passes `deadline`; at least one."""
    yield 0
    epoch = 1
    while time.monotonic() < deadline:
        yield epoch
        epoch += 1


def measure(job: TrainingJob, minutes: float) -> list[Sample]:
    """Train and evaluate until the time is up; one sample an epoch, in `memory.csv` at once."""
    samples: list[Sample] = []
    keeper = ModelCheckpoint(job.stage_folder, job.on_saved)
    with (
        TensorBoardLogger(job.tensorboard) as board,
        (job.folder / "memory.csv").open("w", newline="", encoding="ascii") as file,
    ):
        table = csv.writer(file)
        table.writerow(["epoch", "seconds", "resident_mib", "threads"])
        run = prepare(job, callbacks=[CsvLogger(job.folder), board])
        rows: list[list[float]] = []
        started = time.monotonic()
        for epoch in epochs_until(started + 60 * minutes):
            rows = train_and_evaluate(run, epoch, keeper, rows, Progress(lambda _: None)).rows
            one = Sample(epoch, time.monotonic() - started, resident_mib(), thread_number())
            samples.append(one)
            table.writerow([one.epoch, f"{one.seconds:.1f}", f"{one.resident:.2f}", one.threads])
            file.flush()
    return samples


def main(arguments: Sequence[str] | None = None) -> None:
    """Train for the time asked and print the summary."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, help="a VOC, COCO or YOLO folder; default: drawn")
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--out", type=Path, default=Path("runs/memory"))
    parser.add_argument("--gpu-id", type=int, nargs="*", default=[])
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    options = parser.parse_args(arguments)
    log_to_console()
    source = find_data(options.data)
    task = options.out / "task"
    write_task(source, task, annotation_format="ark", overwrite=True)
    overrides = dict(pair.split("=", 1) for pair in options.set)
    splits = [
        read_dataset(
            task / "in" / f"{name}-index.tsv", source.class_names, root=task, max_bad_fraction=0.0
        )[0]
        for name in ("train", "val")
    ]
    job = TrainingJob(
        settings=parse_settings(TrainSettings, {**SETTINGS, **overrides})[0],
        train=splits[0],
        validation=splits[1],
        device=select_device(options.gpu_id),
        folder=options.out,
        tensorboard=options.out / "tensorboard",
        stage_folder=lambda stage: options.out / stage,
        on_saved=lambda saved: None,
    )
    print(summary(measure(job, options.minutes)), flush=True)


if __name__ == "__main__":
    main()
