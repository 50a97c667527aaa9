"""The parts of the comparison table: the jobs of each, and the rows that come of them."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from bench.comparison import LOOP, OURS, ULTRALYTICS, YOLOV5, Comparison, Result, Row
from bench.material import (
    evaluation_files,
    image_files,
    index_files,
    training_files,
    write_weights,
)
from bench.training import markdown
from tools.parsers import FORMATS
from tools.sources import SourceDataset

NAMES = {
    YOLOV5: "yolov5 7.0.14",
    ULTRALYTICS: "ultralytics, its YOLOv5s-u",
    LOOP: "sequential loop",
}


MODEL, IMAGE_SIZE = "yolov5s", 640
"""Of evaluation, inference and mining."""
AUGMENTED = [("host", "ram"), ("host", "none")]
AUGMENTED += [("device", "gpu"), ("device", "ram"), ("device", "none")]
"""The settings `augment_on` and `cache` that are measured."""


@dataclass(frozen=True)
class Sizes:
    """How much work each part is."""

    training: tuple[tuple[str, int, int, int], ...]
    """Model, image size, batch size, images an epoch."""
    epochs: int
    """The first is not counted; on a GPU there is one more, for the profiler."""
    evaluated: int
    inferred: int
    passes: int
    """Over the inferred images; one more, before them, is not counted."""
    mined: int
    indexed: int


FULL = Sizes((("yolov5n", 320, 16, 128), ("yolov5s", 640, 8, 48)), 3, 1000, 128, 2, 64, 100_000)
GPU = Sizes(
    (("yolov5n", 640, 16, 2048), ("yolov5s", 640, 64, 2048)), 7, 5000, 5000, 3, 2000, 100_000
)
QUICK = Sizes((("yolov5n", 320, 16, 32), ("yolov5s", 640, 8, 16)), 2, 64, 64, 1, 16, 2000)


@dataclass(frozen=True)
class Measurement:
    """What is measured, with what, and the rows and remarks so far."""

    comparison: Comparison
    source: SourceDataset
    weights: Path | None
    sizes: Sizes
    rows: list[Row] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)

    @property
    def folder(self) -> Path:
        """Where everything is written."""
        return self.comparison.folder

    def job(self, kind: str, model: str, image_size: int, batch_size: int) -> dict[str, object]:
        """Write weights of a model for both programs; return what every job says."""
        weights = write_weights(self.folder, model, self.weights, self.source.class_names)
        return {**weights, "kind": kind, "image_size": image_size, "batch_size": batch_size}

    def add(self, row: Row) -> None:
        """Add a row, and print its ratios."""
        self.rows.append(row)
        times = ", ".join(f"{ratio:.2f}" for ratio in row.ratios)
        print(f"{row.task}, {row.unit}, against {row.against}: {times} times", flush=True)


def training(measurement: Measurement) -> None:
    """Measure epochs without validation, their steps, and the peak memory of both programs."""
    for model, size, batch, images in measurement.sizes.training:
        job = {
            **measurement.job("training", model, size, batch),
            **training_files(measurement.folder, measurement.source, images),
            "epochs": measurement.sizes.epochs + bool(measurement.comparison.device),
            # Ours may keep images on a GPU, which the other program cannot.
            "cache": "auto" if measurement.comparison.device else "ram",
        }
        found = measurement.comparison.results(job)
        task = f"training epoch, {model}, {size} px, batch {batch}"
        measurement.add(rate_row(task, YOLOV5, found))
        ours, theirs = (
            tuple(1000 * statistics.median(one["step_seconds"]) for one in own) for own in found
        )
        step = task.replace("epoch", "step, from its batch to the EMA", 1)
        measurement.add(Row(step, NAMES[YOLOV5], "ms", ours, theirs, more_is_better=False))
        ours, theirs = (tuple(one["peak_mib"] for one in own) for own in found)
        name = NAMES[YOLOV5]
        measurement.add(Row(task, name, "MiB at most", ours, theirs, more_is_better=False))


def evaluation(measurement: Measurement) -> None:
    """Measure a labelled split, from files to metrics."""
    images = measurement.sizes.evaluated
    folder = measurement.folder / "evaluation-data"
    job = {
        **measurement.job("evaluation", MODEL, IMAGE_SIZE, 32),
        **evaluation_files(folder, measurement.source, images),
        "images": images,
    }
    found = measurement.comparison.results(job)
    ours, theirs = (own[-1]["map50"] for own in found)
    task = f"evaluation of {images} images, {MODEL}, {IMAGE_SIZE} px"
    measurement.add(rate_row(task, YOLOV5, found, f"mAP50 {ours:.4f} and {theirs:.4f}"))


def inference(measurement: Measurement) -> None:
    """Measure image files to a JSON file, against both other programs."""
    sizes = measurement.sizes
    for batch in (32, 1):
        job = measurement.job("inference", MODEL, IMAGE_SIZE, batch)
        job |= {"passes": sizes.passes, "files": image_files(measurement.source, sizes.inferred)}
        task = f"files to JSON, {MODEL}, {IMAGE_SIZE} px, batch {batch}"
        found = measurement.comparison.results(job)
        measurement.add(rate_row(task, YOLOV5, found, objects_of(found)))
        job["objects_per_image"] = found[0][-1]["objects"] / sizes.inferred
        found = measurement.comparison.results(job, ULTRALYTICS)
        remark = f"{objects_of(found)}; its weights are random"
        measurement.add(rate_row(task, ULTRALYTICS, found, remark))


def host(measurement: Measurement) -> None:
    """Measure what an image costs one core of the host in inference beside decoding; ours only."""
    sizes = measurement.sizes
    job = measurement.job("host", MODEL, IMAGE_SIZE, 32)
    job |= {"passes": 5, "files": image_files(measurement.source, sizes.inferred)}
    found = measurement.comparison.run(OURS, job)
    decoding, whole = (1000 * s / found["images"] for s in (found["decoding"], _seconds(found)))
    measurement.remarks.append(
        f"Inference on one core of the host, files to detections without network and NMS, "
        f"{IMAGE_SIZE} px: {decoding:.2f} ms an image to decode, {whole - decoding:.2f} ms beside."
    )


def mining(measurement: Measurement) -> None:
    """Measure CALD against a loop that takes one image at a time."""
    job = measurement.job("mining", MODEL, IMAGE_SIZE, 16)
    job |= {"warmup": 4, "files": image_files(measurement.source, measurement.sizes.mined)}
    found = measurement.comparison.results(job, LOOP)
    scores = pd.DataFrame({number: own[-1]["scores"] for number, own in enumerate(found)})
    remark = f"{objects_of(found)}; Spearman of the scores {scores.rank().corr()[0][1]:.4f}"
    task = f"mining (CALD), {MODEL}, {IMAGE_SIZE} px, batch 16"
    measurement.add(rate_row(task, LOOP, found, remark))


def start(measurement: Measurement) -> None:
    """Measure the time from the start of the interpreter to the first training batch."""
    job = {
        **measurement.job("start", "yolov5n", 320, 16),
        **training_files(measurement.folder, measurement.source, 32),
        "epochs": 1,
        "cache": "none",
    }
    ours, theirs = (tuple(map(_seconds, own)) for own in measurement.comparison.results(job))
    task, name = "start to first training batch, 32 images", NAMES[YOLOV5]
    measurement.add(Row(task, name, "s", ours, theirs, more_is_better=False))


def samples(measurement: Measurement) -> None:
    """Measure one core's time for a training image before the device's part; ours only."""
    images = measurement.sizes.training[0][-1]
    common = {
        **measurement.job("samples", "yolov5n", IMAGE_SIZE, 16),
        **training_files(measurement.folder, measurement.source, images),
        **{"epochs": measurement.sizes.epochs, "workers": 0},
    }
    rows = []
    for place, cache in AUGMENTED:
        job = {**common, "augment_on": place, "cache": cache}
        found = measurement.comparison.run(OURS, job)
        rows.append([place, cache, f"{1000 * _seconds(found) / found['images']:.2f}"])
    text = markdown("augment_on | cache | ms of one core", rows)
    measurement.remarks.append(
        f"A training image of {IMAGE_SIZE} px, before the device's part:\n\n{text}"
    )


def index(measurement: Measurement) -> None:
    """Measure the reading of many images' headers and annotations; ours only."""
    rows = []
    for form in FORMATS:
        folder = measurement.folder / "index" / form
        job = index_files(folder, measurement.source, measurement.sizes.indexed, form)
        found = measurement.comparison.run(OURS, {**job, "kind": "index"})
        costs = [f"{_seconds(found):.1f}", f"{found['peak_mib']:.0f}"]
        rows.append([form, found["images"], found["boxes"], *costs])
    head = "annotations | images | boxes | seconds | MiB at most"
    measurement.remarks.append(f"Reading an index of labelled images:\n\n{markdown(head, rows)}")


PARTS = {
    part.__name__: part
    for part in (training, evaluation, inference, host, mining, start, samples, index)
}
NEED_PEER = {"training", "evaluation", "inference", "start"}


def rate_row(task: str, other: str, found: Sequence[Sequence[Result]], remark: str = "") -> Row:
    """Return the row of images a second of both programs."""
    ours, theirs = (tuple(one["images"] / _seconds(one) for one in own) for own in found)
    busy = [f"{own[-1]['busy']:.0%}" for own in found if "busy" in own[-1]]
    if busy:
        remark = "; ".join(filter(None, (remark, f"GPU busy {' and '.join(busy)}")))
    return Row(task, NAMES[other], "images/s", ours, theirs, remark=remark)


def objects_of(found: Sequence[Sequence[Result]]) -> str:
    """Say how many objects both programs found."""
    return f"{found[0][-1]['objects']} and {found[1][-1]['objects']} objects"


def _seconds(result: Result) -> float:
    return float(statistics.median(result["seconds"]))
