"""Accuracy from scratch on a labelled folder, seed by seed, as docs/accuracy.md reports it.

    python -m bench.accuracy --data path/to/bccd --seeds 0 1 2 --out runs/accuracy

The settings are those of the reference runs: yolov5n, 320 px, batch 16, 100 epochs, the recipe
scratch-low. Evaluation: validation split, confidence 0.001, NMS IoU 0.6, weights of the best
epoch. A seed whose results are there already is only read.
"""

from __future__ import annotations

import argparse
import json
import logging
import statistics
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from data.read_dataset import read_dataset
from settings.parse import parse_settings
from settings.train import TrainSettings
from tools.make_task import write_task
from tools.sources import read_source
from training.loop import TrainingJob, train
from utils.device import select_device
from utils.logs import log_to_console
from utils.progress import Progress

log = logging.getLogger("accuracy")

RECIPE = {"model": "yolov5n", "img_size": 320, "batch_size": 16, "epochs": 100, "onnx": False}


def run_seed(
    task: Path,
    class_names: Sequence[str],
    out: Path,
    seed: int,
    gpu_ids: Sequence[int],
    overrides: Mapping[str, object],
) -> dict[str, float]:
    """Train once; the figures of the best epoch, also left in `out`/summary.json."""
    settings, _ = parse_settings(TrainSettings, {**RECIPE, **overrides, "seed": seed})
    splits = [
        read_dataset(
            task / "in" / f"{name}-index.tsv", class_names, root=task, max_bad_fraction=0.0
        )[0]
        for name in ("train", "val")
    ]
    started = time.monotonic()
    best = train(
        TrainingJob(
            settings=settings,
            train=splits[0],
            validation=splits[1],
            device=select_device(gpu_ids),
            folder=out,
            tensorboard=None,
            stage_folder=lambda stage: out / stage,
            on_saved=lambda saved: None,
        ),
        Progress(lambda fraction: None),
    )
    epochs = pd.read_csv(out / "results.csv", skipinitialspace=True)
    scores = best.evaluation.scores
    summary = {
        "seed": seed,
        "P": scores.precision,
        "R": scores.recall,
        "mAP50": scores.map50,
        "mAP50-95": scores.map50_95,
        "best epoch": best.epoch,
        "last 10 epochs": float(epochs["metrics/mAP_0.5:0.95"].tail(10).mean()),
        "minutes": (time.monotonic() - started) / 60,
    }
    (out / "summary.json").write_text(json.dumps(summary), encoding="utf-8")
    return summary


def table(rows: Sequence[Mapping[str, float]]) -> str:
    """The figures as Markdown, with mean and standard deviation over the seeds."""
    lines = [
        "| seed | P | R | mAP50 | mAP50-95 | mean mAP50-95 of the last 10 epochs | best epoch |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        lines.append(
            f"| {row['seed']:.0f} | {row['P']:.3f} | {row['R']:.3f} | {row['mAP50']:.3f} "
            f"| {row['mAP50-95']:.3f} | {row['last 10 epochs']:.3f} "
            f"| {row['best epoch']:.0f} |"
        )
    if len(rows) > 1:
        cells = []
        for name in ("mAP50", "mAP50-95", "last 10 epochs"):
            values = [row[name] for row in rows]
            cells.append(f"{statistics.mean(values):.3f} ± {statistics.stdev(values):.3f}")
        lines.append(f"| **mean ± spread** | | | {cells[0]} | {cells[1]} | {cells[2]} | |")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    """Train every seed and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="a VOC, COCO or YOLO folder")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--out", type=Path, default=Path("runs/accuracy"))
    parser.add_argument("--gpu-id", type=int, nargs="*", default=[])
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    options = parser.parse_args(arguments)
    log_to_console()
    source = read_source(options.data)
    task = options.out / "task"
    write_task(source, task, annotation_format="ark", overwrite=True)
    overrides = dict(pair.split("=", 1) for pair in options.set)
    rows = []
    for seed in options.seeds:
        out = options.out / f"seed-{seed}"
        done = out / "summary.json"
        rows.append(
            json.loads(done.read_text("utf-8"))
            if done.is_file()
            else run_seed(task, source.class_names, out, seed, options.gpu_id, overrides)
        )
        print(table(rows), flush=True)


if __name__ == "__main__":
    main()
