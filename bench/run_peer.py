"""Run yolov5 7.0.14 or ultralytics on one job of a benchmark; the last line printed is the result.

    build/peer-venv/bin/python bench/run_peer.py build/bench/job.json yolov5

It runs in the peer's environment and imports nothing of ours. Each program changes settings of
OpenCV and of torch when it is imported, so only the one that is measured is.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy
import torch

Job = Mapping[str, Any]
MAX_DET = 300
# Of this folder, which a script has on its path, and not of a package of ours.
gpu_clock: Any = importlib.import_module(f"{__package__ + '.' if __package__ else ''}gpu_clock")


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
    """Return the only GPU that a job sees if it is for one, or the CPU."""
    return "cuda:0" if job["device"] else "cpu"


def measured(job: Job, work: Callable[[], object], **options: Any) -> dict[str, Any]:
    """Return what `measure` of bench/gpu_clock.py finds on the device of a job."""
    found: dict[str, Any] = gpu_clock.measure(work, on_gpu=bool(job["device"]), **options)
    return found


def run_options(job: Job, weights: str) -> dict[str, Any]:
    """Return the options that yolov5's trainings and evaluations have in common."""
    sizes = {"batch_size": job["batch_size"], "imgsz": job["image_size"]}
    place = {"project": str(Path(job["output"]).absolute() / "peer-runs"), "name": "run"}
    device = "0" if job["device"] else "cpu"
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

    options, map50 = run_options(job, checkpoint(job)), 0.0
    options |= {"conf_thres": 0.001, "iou_thres": 0.6, "half": bool(job["device"])}

    def work() -> None:
        nonlocal map50
        figures, *_ = yolov5.val.run(**options, data=job["data"], task="test", plots=False)
        map50 = float(figures[2])

    return {**measured(job, work), "images": job["images"], "map50": map50}


def training(job: Job) -> dict[str, Any]:
    """Seconds of each epoch after the first, by yolov5's callbacks; without validation.

    Of each step too, from its batch to the EMA; on a GPU the last epoch tells how busy it is.
    """
    from yolov5.utils.callbacks import Callbacks

    on_gpu, callbacks = bool(job["device"]), Callbacks()
    clock, loads, busy = gpu_clock.Clock(on_gpu=on_gpu), list[Any](), dict[str, float]()
    epochs: tuple[list[Any], list[Any]] = ([], [])
    steps: tuple[list[Any], list[Any]] = ([], [])

    def on_epoch(*_: object, **__: object) -> None:
        if on_gpu and len(epochs[0]) == job["epochs"] - 1:
            loads.append(gpu_clock.Load())
        else:
            epochs[0].append(clock.now())

    def on_epoch_end(*_: object, **__: object) -> None:
        if loads:
            busy["busy"] = loads[0].end()
        else:
            epochs[1].append(clock.now())

    def on_step(*_: object, end: int, **__: object) -> None:
        if not loads:
            steps[end].append(clock.now())

    hooks = {"epoch_start": on_epoch, "epoch_end": on_epoch_end}
    hooks |= {
        f"batch_{word}": partial(on_step, end=end) for end, word in enumerate(("start", "end"))
    }
    for name, hook in hooks.items():
        callbacks.register_action(f"on_train_{name}", callback=hook)
    train(job, callbacks)
    seconds, step_seconds = (
        [clock.seconds(*pair) for pair in zip(*moments, strict=True)] for moments in (epochs, steps)
    )
    first = len(step_seconds) // len(seconds)
    times = {"seconds": seconds[1:], "step_seconds": step_seconds[first:]}
    return {**times, "images": job["training_images"], **busy}


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
        cache=None if job["cache"] == "none" else "ram",
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
    model.amp = bool(job["device"])  # float16, as ours has there
    if any(isinstance(module, torch.nn.BatchNorm2d) for module in model.modules()):
        raise SystemExit("yolov5 did not fuse its network: the comparison would not be fair")
    files, size, objects = job["files"], job["batch_size"], 0

    def detect(files: Sequence[str]) -> None:
        nonlocal objects
        rows: dict[str, list[list[float]]] = {}
        for batch in (files[first : first + size] for first in range(0, len(files), size)):
            found = model(batch, size=job["image_size"])
            rows.update(zip(batch, (one.tolist() for one in found.xyxy), strict=True))
        (Path(job["output"]) / "yolov5-detections.json").write_text(json.dumps(rows))
        objects = sum(map(len, rows.values()))

    found = measured(
        job, lambda: detect(files), passes=job["passes"], first=lambda: detect(files[: 2 * size])
    )
    return {**found, "images": len(files), "objects": objects}


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
    settings["half"] = bool(job["device"])

    def predict(chosen: Sequence[str], confidence: float) -> dict[str, list[list[float]]]:
        listing = folder / "ultralytics.txt"
        listing.write_text("\n".join(chosen) + "\n", encoding="utf-8")
        results = model.predict(str(listing), conf=confidence, **settings)
        return {result.path: result.boxes.data.tolist() for result in results}

    some = predict(files[: 2 * job["batch_size"]], 1e-9)
    scores = sorted((row[4] for rows in some.values() for row in rows), reverse=True)
    wanted = round(job["objects_per_image"] * len(some))
    confidence = scores[min(wanted, len(scores) - 1)] if wanted else 0.25
    objects = 0

    def work() -> None:
        nonlocal objects
        found = predict(files, confidence)
        (folder / "ultralytics.json").write_text(json.dumps(found))
        objects = sum(map(len, found.values()))

    measurement = measured(job, work, passes=job["passes"], first=lambda: None)
    return {**measurement, "images": len(files), "objects": objects}


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
        "precision": "float16" if job["device"] else "float32",
        "on": torch.cuda.get_device_name() if job["device"] else f"CPU ({job['threads']} threads)",
        "torch": torch.__version__,
    }
    print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
