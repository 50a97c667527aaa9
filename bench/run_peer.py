"""The peer, yolov5 7.0.14, on one job of a benchmark; the last line printed is the result.

    build/peer-venv/bin/python bench/run_peer.py build/bench/job.json

Runs in the peer's environment, so it imports nothing of ours. The peer is used through its public
entry points and otherwise left as it is.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy
import torch
import yaml

# The peer asks for a name that numpy 2.4 has dropped; set before it is imported.
numpy.trapz = numpy.trapezoid  # type: ignore[attr-defined]

import yolov5  # noqa: E402
import yolov5.train  # noqa: E402
import yolov5.val  # noqa: E402
from yolov5.models.yolo import Model  # noqa: E402
from yolov5.utils.callbacks import Callbacks  # noqa: E402
from yolov5.utils.loss import ComputeLoss  # noqa: E402
from yolov5.utils.torch_utils import smart_optimizer  # noqa: E402

Job = Mapping[str, Any]
PACKAGE = Path(yolov5.__file__).parent
CPU = torch.device("cpu")


def network(job: Job) -> Model:
    """The peer's own network with the tensors that both programs share."""
    definition = next(PACKAGE.rglob(f"{job['model']}.yaml"))
    model = Model(str(definition), nc=len(job["class_names"]))
    model.load_state_dict(torch.load(job["state"], weights_only=True), strict=True)
    model.names = dict(enumerate(job["class_names"]))
    model.nc = len(job["class_names"])  # as its own training leaves it
    return model


def checkpoint(job: Job) -> str:
    """A weight file as the peer itself would leave it; absolute, since it may change folders."""
    path = Path(job["output"]).absolute() / "peer.pt"
    torch.save({"model": network(job).eval(), "ema": None, "epoch": -1, "optimizer": None}, path)
    return str(path)


class Begun(BaseException):
    """The first batch of a training is there."""


def start(job: Job) -> dict[str, Any]:
    """Seconds from the start of the interpreter to the first training batch."""
    callbacks, times = Callbacks(), []

    def begun(*_: object, **__: object) -> None:
        times.append(time.time() - float(os.environ["BENCH_STARTED"]))
        raise Begun

    callbacks.register_action("on_train_batch_start", callback=begun)
    with contextlib.suppress(Begun):
        train(job, callbacks)
    return {"seconds": times, "images": job["training_images"]}


def evaluation(job: Job) -> dict[str, Any]:
    """Seconds of one evaluation, from the weight and label files to the metrics."""
    weights = checkpoint(job)
    started = time.perf_counter()
    figures, *_ = yolov5.val.run(
        data=job["data"],
        weights=weights,
        batch_size=job["batch_size"],
        imgsz=job["image_size"],
        conf_thres=0.001,
        iou_thres=0.6,
        task="test",
        device=job["device"] or "cpu",
        half=bool(job["device"]),
        project=str(Path(job["output"]).absolute() / "peer-runs"),
        name="val",
        exist_ok=True,
        plots=False,
    )
    seconds = time.perf_counter() - started
    return {"seconds": [seconds], "images": job_images(job), "map50": float(figures[2])}


def job_images(job: Job) -> int:
    """How many images an evaluation is of."""
    return len(list((Path(job["data"]).parent / "images" / "all").iterdir()))


def training(job: Job) -> dict[str, Any]:
    """Seconds of each epoch after the first, by the peer's own callbacks; validation excluded."""
    moments: dict[str, list[float]] = {"on_train_epoch_start": [], "on_train_epoch_end": []}
    callbacks = Callbacks()
    for name, times in moments.items():
        callbacks.register_action(
            name, callback=lambda *_, times=times, **__: times.append(time.perf_counter())
        )
    train(job, callbacks)
    both = zip(*moments.values(), strict=True)
    seconds = [end - start for start, end in both]
    return {"seconds": seconds[1:], "images": job["training_images"]}


def train(job: Job, callbacks: Callbacks) -> None:
    """A training as its command line would run it."""
    weights = checkpoint(job)
    sys.argv = sys.argv[:1]
    options = yolov5.train.parse_opt(True)
    vars(options).update(
        weights=weights,
        data=job["peer_data"],
        epochs=job["epochs"],
        batch_size=job["batch_size"],
        imgsz=job["image_size"],
        cache="ram" if job["cache"] == "ram" else None,
        device=job["device"] or "cpu",
        project=str(Path(job["output"]).absolute() / "peer-runs"),
        name="run",
        exist_ok=True,
        # Asking for no validation ends its run after one epoch, so it validates on one image.
        noval=False,
        nosave=True,
        noplots=True,
        noautoanchor=True,
    )
    yolov5.train.main(options, callbacks)


def training_step(job: Job) -> dict[str, Any]:
    """Seconds of each step after the warm-up: forward, loss, backward, clipping, optimiser."""
    model = network(job).train()
    recipe = PACKAGE / "data" / "hyps" / "hyp.scratch-low.yaml"
    model.hyp = {**yaml.safe_load(recipe.read_text(encoding="utf-8")), "label_smoothing": 0.0}
    optimizer = smart_optimizer(model, "SGD", 0.01, 0.937, 5e-4)
    criterion = ComputeLoss(model)
    seconds = []
    for images, targets in torch.load(job["batches"], weights_only=True):
        started = time.perf_counter()
        loss, _ = criterion(model(images.float() / 255), targets)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), max_norm=10.0)
        optimizer.step()
        optimizer.zero_grad()
        seconds.append(time.perf_counter() - started)
    return {"seconds": seconds[job["warmup"] :], "images": job["batch_size"]}


def inference(job: Job) -> dict[str, Any]:
    """Seconds of each pass over the files through its batch call, from disk to detections."""
    model = yolov5.load(checkpoint(job), device=f"cuda:{job['device']}" if job["device"] else "cpu")
    model.conf, model.iou, model.max_det = 0.25, 0.45, 300
    left = [m for m in model.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    if left:
        raise SystemExit("the peer did not fuse its network: it would not be a fair opponent")
    files, size, objects, seconds = job["files"], job["batch_size"], 0, []
    for number in range(job["passes"] + 1):
        chosen = files if number else files[: 2 * size]
        started = time.perf_counter()
        rows: dict[str, list[list[float]]] = {}
        for first in range(0, len(chosen), size):
            part = chosen[first : first + size]
            found = model(part, size=job["image_size"])
            rows.update(zip(part, (one.tolist() for one in found.xyxy), strict=True))
        if job.get("json"):
            path = Path(job["output"]) / "peer-detections.json"
            path.write_text(json.dumps(rows), encoding="utf-8")
        objects = sum(map(len, rows.values()))
        seconds.append(time.perf_counter() - started)
    return {"seconds": seconds[1:], "images": len(files), "objects": objects}


KINDS: Mapping[str, Callable[[Job], dict[str, Any]]] = {
    "training": training,
    "training_step": training_step,
    "inference": inference,
    "evaluation": evaluation,
    "start": start,
}


def main() -> None:
    """Run the job file named on the command line; print one JSON line."""
    job = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    torch.set_num_threads(job["threads"])
    result = {
        "benchmark": job["kind"],
        **KINDS[job["kind"]](job),
        "threads": torch.get_num_threads(),
        "precision": "float32",
        "torch": torch.__version__,
    }
    print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
