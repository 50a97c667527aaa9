"""Ours on one job of a benchmark; the last line printed is the result.

    python -m bench.run_ours build/bench/job.json

A job names its kind (see KINDS), files and sizes; run_peer.py takes the same file.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import torch

import train
from data.data_yaml import read_data_yaml
from data.read_dataset import read_dataset, read_yolo_split
from evaluation.evaluate import evaluate_split
from inference.predictor import load_predictor
from models.checkpoint import build_detector, load_checkpoint
from reporting.results_csv import CsvLogger
from reporting.tensorboard import TensorBoardLogger
from settings.detect import InferSettings
from settings.train import TrainSettings
from training.build import criterion
from training.optimizer import OptimizerStep, build_optimizer
from utils.device import compute_dtype, has_bfloat16, keep_freed_memory
from utils.progress import Progress

CPU = torch.device("cpu")


def training(job: Mapping[str, object]) -> dict[str, object]:
    """Seconds of each epoch after the first: data loading, network, optimiser, average."""
    plan = training_plan(job)
    seconds = []
    run = train.prepare(plan)
    for epoch in range(plan.settings.epochs):
        started = time.perf_counter()
        train.train_one_epoch(run, epoch, Progress(lambda fraction: None))
        seconds.append(time.perf_counter() - started)
    return {"seconds": seconds[1:], "images": len(plan.train)}


def start(job: Mapping[str, object]) -> dict[str, object]:
    """Seconds from the start of the interpreter to the first training batch."""
    plan = training_plan(job)
    with TensorBoardLogger(plan.folder / "tensorboard") as board:
        run = train.prepare(plan, callbacks=[CsvLogger(plan.folder), board])
        next(iter(run.loader))
        seconds = time.time() - float(os.environ["BENCH_STARTED"])
    return {"seconds": [seconds], "images": len(plan.train)}


def training_plan(job: Mapping[str, object]) -> train.TrainingJob:
    """A training as a task would ask for it."""
    checkpoint = load_checkpoint(str(job["ours_weights"]))
    task, folder = Path(str(job["task"])), Path(str(job["output"])) / "ours"
    train_index, validation = (
        read_dataset(
            task / "in" / f"{split}-index.tsv",
            checkpoint.class_names,
            root=task,
            max_bad_fraction=0.0,
        )[0]
        for split in ("train", "val")
    )
    settings = TrainSettings(
        model=str(job["model"]),
        img_size=_whole(job, "image_size"),
        batch_size=_whole(job, "batch_size"),
        epochs=_whole(job, "epochs"),
        cache=str(job["cache"]),
        precision=str(job["precision"]),
        plots=False,
        onnx=False,
    )
    shutil.rmtree(folder, ignore_errors=True)
    return train.TrainingJob(
        settings=settings,
        train=train_index,
        validation=validation,
        device=device_of(job),
        folder=folder,
        stage_folder=lambda stage: folder / stage,
        on_saved=lambda saved: None,
        weights=Path(str(job["ours_weights"])),
    )


def training_step(job: Mapping[str, object]) -> dict[str, object]:
    """Seconds of each step after the warm-up: forward, loss, backward, clipping, optimiser."""
    keep_freed_memory()  # as train.prepare does
    settings = TrainSettings(img_size=_whole(job, "image_size"), precision=str(job["precision"]))
    network = build_detector(load_checkpoint(str(job["ours_weights"])))
    network = network.to(memory_format=torch.channels_last).train()
    loss = criterion(settings, network, settings.img_size)
    optimizer = build_optimizer(
        network, lr=settings.lr0, momentum=settings.momentum, weight_decay=settings.weight_decay
    )
    stepper = OptimizerStep(optimizer)
    batches = torch.load(str(job["batches"]), weights_only=True)
    kind = compute_dtype(CPU, settings.precision)
    seconds = []
    for images, targets in batches:
        started = time.perf_counter()
        with train.autocast(CPU, settings.precision):
            maps = network(train.network_input(images, CPU, kind))
        stepper.backward_and_step(loss(maps, targets).total)
        seconds.append(time.perf_counter() - started)
    return {"seconds": seconds[_whole(job, "warmup") :], "images": _whole(job, "batch_size")}


def inference(job: Mapping[str, object]) -> dict[str, object]:
    """Seconds of each pass over the files, from the disk to detections in original pixels."""
    settings = InferSettings(
        img_size=_whole(job, "image_size"),
        conf_thres=0.25,
        iou_thres=0.45,
        max_det=300,
        precision=str(job["precision"]),
    )
    predictor = load_predictor(Path(str(job["ours_weights"])), settings, device_of(job))
    files = job["files"]
    assert isinstance(files, list)
    batch_size, objects, seconds = _whole(job, "batch_size"), 0, []
    for number in range(_whole(job, "passes") + 1):
        chosen = files if number else files[: 2 * batch_size]
        started = time.perf_counter()
        stream = predictor.stream(chosen, batch_size=batch_size, workers=settings.workers)
        found = {one.path: one.detections for one in stream}
        if job.get("json"):
            path = Path(str(job["output"])) / "our-detections.json"
            path.write_text(json.dumps({file: rows.tolist() for file, rows in found.items()}))
        objects = sum(map(len, found.values()))
        seconds.append(time.perf_counter() - started)
    return {"seconds": seconds[1:], "images": len(files), "objects": objects}


def evaluation(job: Mapping[str, object]) -> dict[str, object]:
    """Seconds of one evaluation, from the weight and label files to the metrics."""
    settings = InferSettings(
        img_size=_whole(job, "image_size"),
        conf_thres=0.001,
        iou_thres=0.6,
        max_det=300,
        precision=str(job["precision"]),
    )
    started = time.perf_counter()
    description = read_data_yaml(Path(str(job["data"])))
    index, _ = read_yolo_split(description, "test", max_bad_fraction=0.0)
    predictor = load_predictor(Path(str(job["ours_weights"])), settings, device_of(job))
    found = evaluate_split(
        predictor, index, batch_size=_whole(job, "batch_size"), workers=settings.workers
    )
    seconds = time.perf_counter() - started
    return {"seconds": [seconds], "images": len(index), "map50": found.scores.map50}


def index(job: Mapping[str, object]) -> dict[str, object]:
    """Seconds of reading an index file, and a digest of everything that was read."""
    path, names = Path(str(job["index"])), job["class_names"]
    assert isinstance(names, list)
    started, processor = time.perf_counter(), time.process_time()
    data, report = read_dataset(path, names, root=path.parent, max_bad_fraction=0.0)
    seconds, processor = time.perf_counter() - started, time.process_time() - processor
    digest = hashlib.sha256(repr((data.paths, report)).encode())
    for array in (data.sizes, data.boxes, data.classes, data.offsets):
        digest.update(array.tobytes())
    return {
        "seconds": [seconds],
        "processor_seconds": processor,
        "images": len(data),
        "boxes": len(data.boxes),
        "digest": digest.hexdigest(),
    }


def device_of(job: Mapping[str, object]) -> torch.device:
    """The GPU that a job names, or the CPU."""
    return torch.device(f"cuda:{job['device']}" if job.get("device") else "cpu")


def _arithmetic(precision: str) -> str:
    """The number format that a setting stands for on this machine."""
    if precision == "auto":
        return "bfloat16" if has_bfloat16(CPU) else "float32"
    return precision


def _whole(job: Mapping[str, object], key: str) -> int:
    value = job[key]
    assert isinstance(value, int), key
    return value


KINDS: Mapping[str, Callable[[Mapping[str, object]], dict[str, object]]] = {
    "training": training,
    "training_step": training_step,
    "inference": inference,
    "evaluation": evaluation,
    "start": start,
    "index": index,
}


def main() -> None:
    """Run the job file named on the command line; print one JSON line."""
    job = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    torch.set_num_threads(job["threads"])
    result = {
        "benchmark": job["kind"],
        **KINDS[job["kind"]](job),
        "threads": torch.get_num_threads(),
        "precision": _arithmetic(str(job["precision"])),
        "torch": torch.__version__,
    }
    print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
