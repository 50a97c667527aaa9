"""Ultralytics' own YOLOv5s-u on one job of a benchmark; the last line printed is the result.

    build/peer-venv/bin/python bench/run_ultralytics.py build/bench/job.json

Runs in the peer's environment, where yolov5 7.0.14 brings it along. Its network has another head
and no weights of ours fit it, so its weights are random; the confidence that it keeps boxes from is
set so that it finds as many objects in an image, on average, as the job says that ours finds.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import ultralytics
from ultralytics.utils import torch_utils

Job = Mapping[str, Any]
MOST = 300


def inference(job: Job) -> dict[str, Any]:
    """Seconds of each pass over the files, from the disk to one JSON file."""
    torch.manual_seed(0)
    model = ultralytics.YOLO(f"{job['model']}.yaml")
    folder, files = Path(job["output"]), job["files"]
    settings = {
        "imgsz": job["image_size"],
        "batch": job["batch_size"],
        "device": f"cuda:{job['device']}" if job["device"] else "cpu",
        "iou": 0.45,
        "max_det": MOST,
        "verbose": False,
        "save": False,
        "stream": True,
    }

    def look(chosen: Sequence[str], confidence: float) -> dict[str, list[list[float]]]:
        listing = folder / "ultralytics.txt"
        listing.write_text("\n".join(chosen) + "\n", encoding="utf-8")
        results = model.predict(str(listing), conf=confidence, **settings)
        return {result.path: result.boxes.data.tolist() for result in results}

    some = look(files[: 2 * job["batch_size"]], 1e-9)
    scores = sorted((row[4] for rows in some.values() for row in rows), reverse=True)
    wanted = round(job["objects_per_image"] * len(some))
    confidence = scores[min(wanted, len(scores) - 1)] if wanted else 0.25
    seconds, objects = [], 0
    for _ in range(job["passes"]):
        started = time.perf_counter()
        found = look(files, confidence)
        (folder / "ultralytics.json").write_text(json.dumps(found), encoding="utf-8")
        seconds.append(time.perf_counter() - started)
        objects = sum(map(len, found.values()))
    return {"seconds": seconds, "images": len(files), "objects": objects}


def main() -> None:
    """Run the job file named on the command line; print one JSON line."""
    job = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    torch.set_num_threads(job["threads"])
    # Otherwise it takes one thread less than there are cores whenever it chooses the CPU.
    torch_utils.NUM_THREADS = job["threads"]
    result = {
        "benchmark": job["kind"],
        **inference(job),
        "threads": torch.get_num_threads(),
        "precision": "float32",
        "torch": torch.__version__,
        "version": ultralytics.__version__,
    }
    print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
