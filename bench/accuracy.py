"""Accuracy from scratch on a labelled folder, seed by seed, as docs/accuracy.md reports it.

    python -m bench.accuracy --data path/to/bccd --seeds 0 1 2 --out runs/accuracy

The settings are those of the reference runs (yolov5n, 320 px, batch 16, 100 epochs); figures are
those of the best epoch on the validation split. A seed whose results exist is not trained again.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd
import torch

from bench.training import (
    RECIPE,
    markdown,
    parse_pairs,
    read_splits,
    training_job,
    training_parser,
)
from data.dataset_index import DatasetIndex
from settings.parse import parse_settings
from settings.train import TrainSettings
from tools.make_task import write_task
from tools.sources import read_source
from training.loop import train
from utils.atomic import write_text
from utils.device import parse_gpu_ids, select_device
from utils.logs import log_to_console
from utils.progress import Progress

FIGURES = ("P", "R", "mAP50", "mAP50-95", "last 10 epochs")
HEAD = "seed | P | R | mAP50 | mAP50-95 | mean mAP50-95 of the last 10 epochs | best epoch"


def train_seed(
    splits: tuple[DatasetIndex, DatasetIndex],
    out: Path,
    overrides: Mapping[str, object],
    device: torch.device,
) -> dict[str, float]:
    """Train; return the figures of the best epoch (from 1), read from summary.json if it exists."""
    done = out / "summary.json"
    if done.is_file():
        found: dict[str, float] = json.loads(done.read_text("utf-8"))
        return found
    settings, _ = parse_settings(TrainSettings, {**RECIPE, **overrides})
    best = train(training_job(settings, splits, out, device), Progress())
    assert best
    epochs = pd.read_csv(out / "results.csv", skipinitialspace=True)
    scores = best.evaluation.scores
    summary = {
        "P": scores.precision,
        "R": scores.recall,
        "mAP50": scores.map50,
        "mAP50-95": scores.map50_95,
        "last 10 epochs": float(epochs["metrics/mAP_0.5:0.95"].tail(10).mean()),
        "best epoch": best.epoch + 1,
    }
    write_text(done, json.dumps(summary))
    return summary


def table(summaries: Mapping[int, Mapping[str, float]]) -> str:
    """Format the figures by seed, with mean and standard deviation over the seeds."""
    frame = pd.DataFrame(list(summaries.values()))
    rows = [
        [seed, *(f"{row[name]:.3f}" for name in FIGURES), f"{row['best epoch']:.0f}"]
        for seed, row in summaries.items()
    ]
    if len(frame) > 1:
        mean, spread = frame.mean(), frame.std()
        cells = [f"{mean[name]:.3f} ± {spread[name]:.3f}" for name in FIGURES]
        rows.append(["**mean ± spread**", *cells, ""])
    return markdown(HEAD, rows)


def main(arguments: Sequence[str] | None = None) -> None:
    """Train every seed and print the table."""
    parser = training_parser("bench.accuracy", __doc__, Path("runs/accuracy"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    options = parser.parse_args(arguments)
    log_to_console()
    source, device = read_source(options.data), select_device(parse_gpu_ids(options.gpu_id))
    task = options.out / "task"
    write_task(source, task, annotation_format="ark", overwrite=True)
    splits = read_splits(task, source.class_names)
    overrides: dict[str, object] = {"epochs": 100, **parse_pairs(options.set, "--set")}
    summaries = {}
    for seed in options.seeds:
        own = {**overrides, "seed": seed}
        summaries[seed] = train_seed(splits, options.out / f"seed-{seed}", own, device)
        print(table(summaries), flush=True)


if __name__ == "__main__":
    main()
