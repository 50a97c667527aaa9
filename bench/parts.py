"""The parts of the whole comparison: what each runs on both programs, and the lines it gives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch

from bench.ceiling import PRECISIONS, matmul_rate, network_rate
from bench.index import index_table
from bench.index import measure as measure_index
from bench.material import image_files, write_evaluation_data, write_weights
from bench.mining import measure as measure_mining
from bench.mining import mining_job
from bench.pairs import Contest
from bench.summary import Line
from bench.training_step import training_job
from data.images import image_size
from models.checkpoint import build_detector, load_checkpoint
from models.summary import count_gflops
from ops.letterbox import apply_letterbox, plan_letterbox
from tools.sources import SourceDataset

YOLOV5 = "yolov5 7.0.14"
ULTRALYTICS = "ultralytics, its YOLOv5s-u"
LOOP = "sequential loop"
Results = Mapping[str, Sequence[Mapping[str, object]]]


@dataclass(frozen=True)
class Sizes:
    """How much work each part is."""

    training: tuple[tuple[str, int, int, int], ...] = (
        ("yolov5n", 320, 16, 128),
        ("yolov5s", 640, 8, 48),
    )
    """Model, image size, batch size, images an epoch."""
    epochs: int = 3
    """The first is not counted."""
    model: str = "yolov5s"
    """Of evaluation, inference and mining."""
    image_size: int = 640
    evaluated: int = 1000
    inferred: int = 128
    batches: tuple[int, ...] = (32, 1)
    passes: int = 2
    mined: int = 64
    indexed: int = 100_000
    product: int = 2048
    """Side of the matrices multiplied."""


FULL = Sizes()
QUICK = replace(
    FULL,
    training=(("yolov5n", 320, 16, 32), ("yolov5s", 640, 8, 16)),
    epochs=2,
    evaluated=64,
    inferred=64,
    passes=1,
    mined=16,
    indexed=2000,
    product=1024,
)


@dataclass
class Measurement:
    """What is measured, with what, and what has come out so far."""

    contest: Contest
    source: SourceDataset
    weights: Path | None
    sizes: Sizes
    lines: list[Line] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    reached: list[tuple[str, float]] = field(default_factory=list)
    """Task, and 1e9 operations a second that ours computed."""

    @property
    def folder(self) -> Path:
        """Where everything is written."""
        return self.contest.folder

    def weights_of(self, model: str) -> dict[str, object]:
        """Weights for both programs, and what a job says of them."""
        made = write_weights(self.folder, model, self.weights, self.source.class_names)
        return {
            "model": model,
            "class_names": made.class_names,
            "ours_weights": str(made.ours.absolute()),
            "state": str(made.state.absolute()),
        }

    def add(self, line: Line) -> None:
        """One more line; also printed."""
        self.lines.append(line)
        times = ", ".join(f"{ratio:.2f}" for ratio in line.ratios())
        print(f"{line.task}, {line.unit}, against {line.against}: {times} times", flush=True)

    def reach(self, task: str, job: Mapping[str, object], rate: float, *, training: bool) -> None:
        """Note what `rate` images a second mean in operations."""
        detector = build_detector(load_checkpoint(str(job["ours_weights"])))
        size = job["image_size"]
        assert isinstance(size, int)
        pixels = size * size if training else _seen(image_files(self.source, 1)[0], size)
        gflops = count_gflops(detector)
        self.reached.append((task, network_rate(gflops, rate, pixels, training=training)))


def training(measurement: Measurement) -> None:
    """Whole epochs, and the most memory that either program took meanwhile."""
    for model, size, batch, images in measurement.sizes.training:
        job = training_job(
            measurement.folder,
            measurement.source,
            measurement.weights_of(model),
            image_size=size,
            batch_size=batch,
            images=images,
            epochs=measurement.sizes.epochs,
        )
        results = measurement.contest.results({**job, "kind": "training"})
        task = f"training epoch, {model}, {size} px, batch {batch}"
        line = rate_line(task, results)
        measurement.add(line)
        measurement.add(memory_line(task, results))
        measurement.reach(task, job, float(np.median(line.ours)), training=True)


def evaluation(measurement: Measurement) -> None:
    """A labelled split, metrics included, as a user waits for it once the program is loaded."""
    sizes = measurement.sizes
    data = write_evaluation_data(
        measurement.folder / "evaluation-data", measurement.source, sizes.evaluated
    )
    job = {
        **measurement.weights_of(sizes.model),
        "kind": "evaluation",
        "data": str(data.absolute()),
        "image_size": sizes.image_size,
        "batch_size": 32,
    }
    results = measurement.contest.results(job)
    task = f"evaluation of {sizes.evaluated} images, {sizes.model}, {sizes.image_size} px"
    ours, theirs = (results[name][-1]["map50"] for name in ("ours", "peer"))
    line = rate_line(task, results)
    measurement.add(replace(line, remark=f"mAP50 {ours:.4f} and {theirs:.4f}"))
    measurement.reach(task, job, float(np.median(line.ours)), training=False)


def inference(measurement: Measurement) -> None:
    """Files on disk to a JSON file, against both other programs."""
    sizes, contest = measurement.sizes, measurement.contest
    for batch in sizes.batches:
        job = {
            **measurement.weights_of(sizes.model),
            "kind": "inference",
            "image_size": sizes.image_size,
            "batch_size": batch,
            "files": image_files(measurement.source, sizes.inferred),
            "passes": sizes.passes,
            "json": True,
        }
        task = f"files to JSON, {sizes.model}, {sizes.image_size} px, batch {batch}"
        results = contest.results(job)
        line = rate_line(task, results)
        measurement.add(replace(line, remark=objects_of(results)))
        measurement.reach(task, job, float(np.median(line.ours)), training=False)
        found, images = (results["ours"][-1][name] for name in ("objects", "images"))
        assert isinstance(found, int)
        assert isinstance(images, int)
        results = contest.against("run_ultralytics.py").results(
            {**job, "objects_per_image": found / images}
        )
        line = rate_line(task, results, against=ULTRALYTICS)
        measurement.add(replace(line, remark=f"{objects_of(results)}; its weights are random"))


def mining(measurement: Measurement) -> None:
    """CALD beside a loop that takes one image at a time; on the CPU only."""
    sizes, contest = measurement.sizes, measurement.contest
    if contest.device:
        measurement.remarks.append("mining is measured on the CPU only")
        return
    job = mining_job(
        measurement.folder / "mining",
        Path(str(measurement.weights_of(sizes.model)["ours_weights"])),
        image_files(measurement.source, sizes.mined),
        image_size=sizes.image_size,
        batch_size=16,
        threads=contest.threads,
    )
    times = measure_mining(job, ("auto", "reference"), contest.pairs)
    rates = {name: tuple(1 / second for second in times[name]) for name in times}
    task = f"mining (CALD), {sizes.model}, {sizes.image_size} px, batch 16"
    measurement.add(Line(task, LOOP, "images/s", rates["auto"], rates["reference"]))


def start(measurement: Measurement) -> None:
    """From the start of the interpreter to the first training batch of a small task."""
    job = training_job(
        measurement.folder,
        measurement.source,
        measurement.weights_of("yolov5n"),
        image_size=320,
        batch_size=16,
        images=32,
        epochs=1,
        cache="none",
    )
    results = measurement.contest.results({**job, "kind": "start"})
    ours, peer = (tuple(map(_seconds, results[name])) for name in ("ours", "peer"))
    task = "start to first training batch, 32 images"
    measurement.add(Line(task, YOLOV5, "s", ours, peer, more_is_better=False))


def index(measurement: Measurement) -> None:
    """Headers and annotations of many images; ours only."""
    found = measure_index(
        measurement.source,
        measurement.folder / "index",
        count=measurement.sizes.indexed,
        formats=("voc", "ark", "coco"),
    )
    measurement.remarks.append(f"Reading an index of labelled images:\n\n{index_table(found)}")


PARTS = {
    "training": training,
    "evaluation": evaluation,
    "inference": inference,
    "mining": mining,
    "start": start,
    "index": index,
}


def ceiling(measurement: Measurement) -> str:
    """The machine's own rate, and the share of it that each task reached, as sentences."""
    contest = measurement.contest
    torch.set_num_threads(contest.threads)
    device = torch.device(f"cuda:{contest.device}" if contest.device else "cpu")
    side = measurement.sizes.product
    rates = {name: matmul_rate(name, device=device, side=side) for name in PRECISIONS}
    shown = ", ".join(f"{name} {rate:.0f} GFLOP/s" for name, rate in rates.items())
    lines = [f"Products of {side} x {side} matrices on this machine: {shown}.", ""]
    lines += [
        f"- {task}: {own:.0f} GFLOP/s, "
        + ", ".join(f"{own / rate:.0%} of {name}" for name, rate in rates.items())
        for task, own in measurement.reached
    ]
    return "\n".join(lines)


def rate_line(task: str, results: Results, *, against: str = YOLOV5) -> Line:
    """Images a second of both programs."""
    ours, peer = (tuple(map(_rate, results[name])) for name in ("ours", "peer"))
    return Line(task, against, "images/s", ours, peer)


def memory_line(task: str, results: Results) -> Line:
    """The most memory of both programs."""
    ours, peer = (
        tuple(float(str(one["peak_mib"])) for one in results[name]) for name in ("ours", "peer")
    )
    return Line(task, YOLOV5, "MiB at most", ours, peer, more_is_better=False)


def objects_of(results: Results) -> str:
    """How many objects both found."""
    ours, peer = (results[name][-1]["objects"] for name in ("ours", "peer"))
    return f"{ours} and {peer} objects"


def _rate(result: Mapping[str, object]) -> float:
    images = result["images"]
    assert isinstance(images, int)
    return images / _seconds(result)


def _seconds(result: Mapping[str, object]) -> float:
    seconds = result["seconds"]
    assert isinstance(seconds, list)
    return float(np.median(seconds))


def _seen(path: str, size: int) -> int:
    """Pixels that the network sees of an image file in inference."""
    height, width = image_size(path)
    plan = plan_letterbox((height, width), (size, size), minimal=True, stride=32)
    seen = apply_letterbox(np.zeros((height, width, 3), np.uint8), plan)
    return int(seen.shape[0] * seen.shape[1])
