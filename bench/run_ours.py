"""Run ours on one job of a benchmark; the last line printed is the result.

    python -m bench.run_ours build/bench/job.json

A job is a JSON file with its kind (see KINDS), files and sizes; run_peer.py takes the same file.
"""

from __future__ import annotations

import itertools
import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bench.gpu_clock import Clock, Load, measure
from bench.training import read_splits, training_job
from data.data_yaml import read_data_yaml
from data.images import content_mark, read_image
from data.read_dataset import read_dataset, read_yolo_split
from evaluation.evaluate import evaluate_split
from inference.batching import WorkerPool
from inference.predictions import Prediction
from inference.predictor import Predictor, load_predictor
from mining.mining_cald import ALGORITHM
from mining.scores import ScoringContext, in_order
from models.checkpoint import load_checkpoint
from ops.nms import NmsConfig
from reporting.results_csv import CsvLogger
from reporting.tensorboard import TensorBoardLogger
from settings.detect import InferSettings, MiningSettings
from settings.train import TrainSettings
from training.job import TrainingJob
from training.loop import train_one_epoch
from training.setup import prepare
from utils.device import compute_dtype, describe, inference_precision
from utils.progress import Progress

Job = Mapping[str, Any]
Kind = Callable[[Job], dict[str, Any]]


def training(job: Job) -> dict[str, Any]:
    """Seconds of each epoch after the first: data loading, network, optimizer, EMA.

    Of each step too, from its batch to the EMA; on a GPU the last epoch tells how busy it is.
    """
    plan, clock = plan_of(job), Clock(on_gpu=bool(job["device"]))
    run, epochs, steps, busy = prepare(plan), plan.settings.epochs, list[Any](), {}

    def step(images: Tensor, targets: Tensor, size: tuple[int, int]) -> Tensor:
        start = clock.now()
        losses = run.step(images, targets, size)
        steps.append((start, clock.now()))
        return losses

    timed, marks = replace(run, step=step), list[Any]()  # type: ignore[arg-type]
    for epoch in range(epochs - clock.on_gpu):
        marks.append(clock.now())
        train_one_epoch(timed, epoch, Progress())
    marks.append(clock.now())
    if clock.on_gpu:
        load = Load()
        train_one_epoch(run, epochs - 1, Progress())
        busy = {"busy": load.end()}
    return {
        "seconds": [clock.seconds(*pair) for pair in itertools.pairwise(marks)][1:],
        "step_seconds": [clock.seconds(*pair) for pair in steps][len(run.loader) :],
        "images": len(plan.train),
        **busy,
    }


def samples(job: Job) -> dict[str, Any]:
    """Seconds of one core for what the host does of each epoch's batches, from files to plans."""
    plan, seconds = plan_of(job), []
    loader = prepare(plan).loader
    for epoch in range(plan.settings.epochs):
        loader.set_epoch(epoch)
        started = time.process_time()
        for _ in loader.on_host():
            pass
        seconds.append(time.process_time() - started)
    return {"seconds": seconds[1:], "images": len(plan.train)}


def start(job: Job) -> dict[str, Any]:
    """Seconds from the start of the interpreter to the first training batch."""
    plan = plan_of(job)
    with TensorBoardLogger(plan.folder / "tensorboard") as board:
        next(iter(prepare(plan, callbacks=[CsvLogger(plan.folder), board]).loader))
        seconds = time.time() - float(os.environ["BENCH_STARTED"])
    return {"seconds": [seconds], "images": len(plan.train)}


def plan_of(job: Job) -> TrainingJob:
    """Return a training as a task would run it, in an empty folder."""
    folder = Path(job["output"]) / "ours"
    names = ("model", "epochs", "cache", "augment_on", "workers")
    taken = {name: job[name] for name in names if name in job}
    settings = TrainSettings(**network_settings(job), **taken, plots=False, onnx=False)
    weights = Path(job["weights"])
    splits = read_splits(Path(job["task"]), load_checkpoint(weights).class_names)
    shutil.rmtree(folder, ignore_errors=True)
    return training_job(settings, splits, folder, device_of(job), weights)


def inference(job: Job) -> dict[str, Any]:
    """Seconds of each pass over the files, from the disk to a JSON file of detections."""
    predictor = predictor_of(job, conf_thres=0.25, iou_thres=0.45)
    files, objects = job["files"], 0

    def detect(files: Sequence[str]) -> None:
        nonlocal objects
        found = {one.path: one.detections.tolist() for one in predictor.stream(files)}
        (Path(job["output"]) / "our-detections.json").write_text(json.dumps(found))
        objects = sum(map(len, found.values()))

    found = measured(
        job,
        lambda: detect(files),
        passes=job["passes"],
        first=lambda: detect(files[: 2 * job["batch_size"]]),
    )
    return {**found, "images": len(files), "objects": objects}


class FreeNetwork(Predictor):
    """A predictor whose network and NMS cost nothing: what is left is the host's work."""

    def detect_with_classes(
        self, images: Tensor, *, nms: NmsConfig | None = None
    ) -> list[tuple[Tensor, Tensor]]:
        """Find the same few objects everywhere."""
        rows = torch.ones(16, 6)
        return [(rows, rows)] * len(images)


def host(job: Job) -> dict[str, Any]:
    """CPU seconds of decoding the files, and of predicting them without network and NMS."""
    threads, files = torch.get_num_threads(), job["files"]
    torch.set_num_threads(1)
    found = predictor_of({**job, "device": ""}, conf_thres=0.25, iou_thres=0.45)
    config = replace(found.config, workers=1)
    free = FreeNetwork(found.network, found.class_names, WorkerPool(torch.device("cpu")), config)

    def decode() -> None:
        for path in files:
            read_image(path)
            content_mark(path)

    def seconds(work: Callable[[], object]) -> float:
        started = time.process_time()
        work()
        return time.process_time() - started

    turns = [
        (seconds(decode), seconds(lambda: list(free.stream(files)))) for _ in range(job["passes"])
    ]
    torch.set_num_threads(threads)
    decoding, whole = map(min, zip(*turns, strict=True))
    return {"seconds": [whole], "decoding": decoding, "images": len(files)}


def evaluation(job: Job) -> dict[str, Any]:
    """Seconds of one evaluation, from the weight and label files to the metrics."""
    about: dict[str, Any] = {}

    def work() -> None:
        index, _ = read_yolo_split(read_data_yaml(Path(job["data"])), "test", max_bad_fraction=0.0)
        found = evaluate_split(predictor_of(job, conf_thres=0.001, iou_thres=0.6), index)
        about.update(images=len(index), map50=found.scores.map50)

    return {**measured(job, work), **about}


def measured(job: Job, work: Callable[[], object], **options: Any) -> dict[str, Any]:
    """Return what `measure` finds on the device of a job."""
    return measure(work, on_gpu=bool(job["device"]), **options)


def predictor_of(job: Job, *, conf_thres: float, iou_thres: float) -> Predictor:
    """Load the weights of a job, with at most 300 detections an image."""
    settings = InferSettings(
        **network_settings(job), conf_thres=conf_thres, iou_thres=iou_thres, max_det=300
    )
    return load_predictor(Path(job["weights"]), settings, device_of(job))


def mining_settings(job: Job) -> MiningSettings:
    """Return the settings of a mining job; without class balance, which the loop does not have."""
    return MiningSettings(**network_settings(job), balance_window=0)


def mining(job: Job) -> dict[str, Any]:
    """Seconds of mining the files with CALD, from the disk to scores; the scores themselves."""
    settings, objects = mining_settings(job), 0
    predictor = load_predictor(Path(job["weights"]), settings, device_of(job))

    def counted(predictions: Iterable[Prediction]) -> Iterator[Prediction]:
        nonlocal objects
        for prediction in predictions:
            objects += len(prediction.detections)
            yield prediction

    def scores_of(files: Sequence[str]) -> list[float]:
        parts = predictor.stream_tiles(files, keep_inputs=True)
        context = ScoringContext(predictor, settings, len(files))
        scores = ALGORITHM.rank(ALGORITHM.score(counted(parts), context), context)
        return [score for _, score in in_order(scores, files)]

    files, scores = job["files"], list[float]()

    def work() -> None:
        nonlocal objects, scores
        objects = 0
        scores = scores_of(files)

    found = measured(job, work, first=lambda: scores_of(files[: job["warmup"]]))
    return {**found, "images": len(files), "objects": objects, "scores": scores}


def index(job: Job) -> dict[str, Any]:
    """Seconds of reading an index file with its annotations and image headers."""
    path, started = Path(job["index"]), time.perf_counter()
    data, _ = read_dataset(path, job["class_names"], root=path.parent, max_bad_fraction=0.0)
    seconds = time.perf_counter() - started
    return {"seconds": [seconds], "images": len(data), "boxes": len(data.boxes)}


def network_settings(job: Job) -> dict[str, Any]:
    """Return the settings that all kinds of work have."""
    sizes = {"img_size": job["image_size"], "batch_size": job["batch_size"]}
    return {**sizes, "precision": job["precision"]}


def device_of(job: Job) -> torch.device:
    """Return the only GPU that a job sees if it is for one, or the CPU."""
    return torch.device("cuda:0" if job["device"] else "cpu")


KINDS: Mapping[str, Kind] = {
    kind.__name__: kind
    for kind in (training, inference, host, evaluation, mining, start, samples, index)
}


def main(program: str = "ours", kinds: Mapping[str, Kind] = KINDS) -> None:
    """Run the job file named on the command line; print one JSON line."""
    job = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    torch.set_num_threads(job["threads"])
    device, precision, kind = device_of(job), job["precision"], job["kind"]
    if kind in ("evaluation", "inference", "mining"):
        precision = inference_precision(device, precision, evaluates=kind == "evaluation")
    result = {
        "benchmark": kind,
        "program": program,
        "precision": str(compute_dtype(device, precision)).removeprefix("torch."),
        "on": describe(device),
        **kinds[kind](job),
        "torch": torch.__version__,
    }
    print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
