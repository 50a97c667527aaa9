"""Run yolov5 7.0.14 or ultralytics on one job of a benchmark; the last line printed is the result.

    build/peer-venv/bin/python bench/run_peer.py build/bench/job.json yolov5

It runs in the peer's environment and imports nothing of ours. Each program changes settings of
OpenCV and of torch when it is imported, so only the one that is measured is.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy
import torch

Job = Mapping[str, Any]
MAX_DET = 300


def network(job: Job) -> Any:
    """Build yolov5's network with the weights that both programs share."""
    import yolov5
    from yolov5.models.yolo import Model

    definition = next(Path(yolov5.__file__).parent.rglob(f"{job['model']}.yaml"))
    model = Model(str(definition), nc=len(job["class_names"]))
    model.load_state_dict(torch.load(job["state"], weights_only=True), strict=True)
    model.names = dict(enumerate(job["class_names"]))
    model.nc = len(job["class_names"])  # as its own training leaves it
    return model


def checkpoint(job: Job) -> str:
    """Write a checkpoint in yolov5's own form; return its absolute path."""
    path = Path(job["output"]).absolute() / "peer.pt"
    torch.save({"model": network(job).eval(), "ema": None, "epoch": -1, "optimizer": None}, path)
    return str(path)


def device_of(job: Job) -> str:
    """Return the GPU that a job names, or the CPU."""
    return f"cuda:{job['device']}" if job["device"] else "cpu"


def run_options(job: Job, weights: str) -> dict[str, Any]:
    """Return the options that yolov5's trainings and evaluations have in common."""
    sizes = {"batch_size": job["batch_size"], "imgsz": job["image_size"]}
    place = {"project": str(Path(job["output"]).absolute() / "peer-runs"), "name": "run"}
    device = job["device"] or "cpu"
    return {"weights": weights, "device": device, "exist_ok": True, **sizes, **place}


class FirstBatch(BaseException):
    """Ends a training at its first batch."""


def start(job: Job) -> dict[str, Any]:
    """Seconds from the start of the interpreter to the first training batch."""
    from yolov5.utils.callbacks import Callbacks

    callbacks, times = Callbacks(), []

    def on_batch(*_: object, **__: object) -> None:
        times.append(time.time() - float(os.environ["BENCH_STARTED"]))
        raise FirstBatch

    callbacks.register_action("on_train_batch_start", callback=on_batch)
    with contextlib.suppress(FirstBatch):
        train(job, callbacks)
    return {"seconds": times, "images": job["training_images"]}


def evaluation(job: Job) -> dict[str, Any]:
    """Seconds of one evaluation, from the weight and label files to the metrics."""
    import yolov5.val

    weights = checkpoint(job)
    started = time.perf_counter()
    figures, *_ = yolov5.val.run(
        **run_options(job, weights),
        data=job["data"],
        conf_thres=0.001,
        iou_thres=0.6,
        task="test",
        half=bool(job["device"]),
        plots=False,
    )
    seconds = time.perf_counter() - started
    return {"seconds": [seconds], "images": job["images"], "map50": float(figures[2])}


def training(job: Job) -> dict[str, Any]:
    """Seconds of each epoch after the first, by yolov5's callbacks; without validation."""
    from yolov5.utils.callbacks import Callbacks

    moments: dict[str, list[float]] = {"on_train_epoch_start": [], "on_train_epoch_end": []}
    callbacks = Callbacks()
    for name, times in moments.items():
        callbacks.register_action(
            name, callback=lambda *_, times=times, **__: times.append(time.perf_counter())
        )
    train(job, callbacks)
    seconds = [end - begin for begin, end in zip(*moments.values(), strict=True)]
    return {"seconds": seconds[1:], "images": job["training_images"]}


def train(job: Job, callbacks: object) -> None:
    """Train as yolov5's command line does."""
    import yolov5.train

    weights = checkpoint(job)
    sys.argv = sys.argv[:1]
    options = yolov5.train.parse_opt(True)
    vars(options).update(
        **run_options(job, weights),
        data=job["peer_data"],
        epochs=job["epochs"],
        cache="ram" if job["cache"] == "ram" else None,
        # Asking for no validation ends its run after one epoch, so it validates on one image.
        noval=False,
        nosave=True,
        noplots=True,
        noautoanchor=True,
    )
    yolov5.train.main(options, callbacks)


def command(job: Job) -> dict[str, Any]:
    """Train by yolov5's own command line, with the clock of its suppression stopped.

    Its suppression leaves out the rest of a batch after a time limit, so that a busy machine
    would change its figures.
    """
    import yolov5.train
    from yolov5.utils import general

    class Stopped:
        """The module time, on which no time passes."""

        strftime = staticmethod(time.strftime)
        time = staticmethod(lambda: 0.0)

    general.time = Stopped
    arguments, package = list(job["arguments"]), Path(yolov5.train.__file__).parent
    for flag, form in (("--cfg", "{}.yaml"), ("--hyp", "hyp.{}.yaml")):
        place = arguments.index(flag) + 1
        arguments[place] = str(next(package.rglob(form.format(arguments[place]))))
    sys.argv = ["train.py", *arguments]
    yolov5.train.main(yolov5.train.parse_opt())
    return {}


def inference(job: Job) -> dict[str, Any]:
    """Seconds of each pass over the files, from the disk to a JSON file of detections."""
    import yolov5

    model = yolov5.load(checkpoint(job), device=device_of(job))
    model.conf, model.iou, model.max_det = 0.25, 0.45, MAX_DET
    if any(isinstance(module, torch.nn.BatchNorm2d) for module in model.modules()):
        raise SystemExit("yolov5 did not fuse its network: the comparison would not be fair")
    files, size, objects, seconds = job["files"], job["batch_size"], 0, []
    for number in range(job["passes"] + 1):
        chosen = files if number else files[: 2 * size]
        started = time.perf_counter()
        rows: dict[str, list[list[float]]] = {}
        for first in range(0, len(chosen), size):
            batch = chosen[first : first + size]
            found = model(batch, size=job["image_size"])
            rows.update(zip(batch, (one.tolist() for one in found.xyxy), strict=True))
        (Path(job["output"]) / "yolov5-detections.json").write_text(json.dumps(rows))
        objects = sum(map(len, rows.values()))
        seconds.append(time.perf_counter() - started)
    return {"seconds": seconds[1:], "images": len(files), "objects": objects}


def ultralytics_inference(job: Job) -> dict[str, Any]:
    """As `inference`, with ultralytics' own YOLOv5s-u.

    Its network has another head that no weights of ours fit, so its weights are random; its
    confidence threshold is set so that it finds as many objects an image, on average, as ours.
    """
    import ultralytics
    from ultralytics.utils import torch_utils

    # Otherwise it takes one thread less than there are cores whenever it chooses the CPU.
    torch_utils.NUM_THREADS = job["threads"]
    torch.manual_seed(0)
    model = ultralytics.YOLO(f"{job['model']}.yaml")
    folder, files = Path(job["output"]), job["files"]
    settings = {"imgsz": job["image_size"], "batch": job["batch_size"], "device": device_of(job)}
    settings |= {"iou": 0.45, "max_det": MAX_DET, "verbose": False, "save": False, "stream": True}

    def predict(chosen: Sequence[str], confidence: float) -> dict[str, list[list[float]]]:
        listing = folder / "ultralytics.txt"
        listing.write_text("\n".join(chosen) + "\n", encoding="utf-8")
        results = model.predict(str(listing), conf=confidence, **settings)
        return {result.path: result.boxes.data.tolist() for result in results}

    some = predict(files[: 2 * job["batch_size"]], 1e-9)
    scores = sorted((row[4] for rows in some.values() for row in rows), reverse=True)
    wanted = round(job["objects_per_image"] * len(some))
    confidence = scores[min(wanted, len(scores) - 1)] if wanted else 0.25
    seconds, objects = [], 0
    for _ in range(job["passes"]):
        started = time.perf_counter()
        found = predict(files, confidence)
        (folder / "ultralytics.json").write_text(json.dumps(found))
        seconds.append(time.perf_counter() - started)
        objects = sum(map(len, found.values()))
    return {"seconds": seconds, "images": len(files), "objects": objects}


YOLOV5 = {kind.__name__: kind for kind in (training, inference, evaluation, start, command)}
PROGRAMS = {"yolov5": YOLOV5, "ultralytics": {"inference": ultralytics_inference}}


def main() -> None:
    """Run the job file on the command line with the program named after it; print one JSON line."""
    job, program = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")), sys.argv[2]
    # yolov5 asks for a name that numpy 2.4 has dropped.
    numpy.trapz = numpy.trapezoid  # type: ignore[attr-defined]
    torch.set_num_threads(job["threads"])
    result = {
        "benchmark": job["kind"],
        "program": program,
        **PROGRAMS[program][job["kind"]](job),
        "threads": torch.get_num_threads(),
        "precision": "float32",
        "torch": torch.__version__,
    }
    print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
