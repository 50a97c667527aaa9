"""A tiny training on the CPU, for tests that call the loop directly."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
import yaml

from bench.training import training_job
from data.dataset_index import DatasetIndex
from models.checkpoint import load_checkpoint
from settings.parse import parse_settings
from settings.train import TrainSettings
from tests.conftest import TINY_TRAINING
from training.checkpoints import SavedCheckpoint
from training.job import TrainingJob
from training.loop import train
from utils.progress import Progress

SMALL_NETWORK = {
    "nc": 3,
    "depth_multiple": 1.0,
    "width_multiple": 0.25,
    "anchors": [[10, 13, 16, 30], [30, 61, 62, 45]],
    "backbone": [[-1, 1, "Conv", [32, 3, 4]], [-1, 1, "C3", [32]], [-1, 1, "Conv", [64, 3, 2]]],
    "head": [[-1, 1, "Conv", [64, 3, 2]], [[2, 3], 1, "Detect", ["nc", "anchors"]]],
}


def small_network(folder: Path) -> dict[str, object]:
    """Return settings of a network of few layers, whose model file is written to `folder`."""
    path = folder / "small.yaml"
    path.write_text(yaml.safe_dump(SMALL_NETWORK), encoding="utf-8")
    return {"model": str(path), "img_size": 64, "noautoanchor": True}


def make_job(splits: Sequence[DatasetIndex], folder: Path, **change: object) -> TrainingJob:
    """Return a training of two short epochs on `splits`, with further settings."""
    settings, _ = parse_settings(
        TrainSettings, {**TINY_TRAINING, "onnx": False, "plots": False, "workers": 0, **change}
    )
    return training_job(settings, (splits[0], splits[1]), folder, torch.device("cpu"))


def run(job: TrainingJob) -> SavedCheckpoint:
    """Train and return the best checkpoint."""
    best = train(job, Progress())
    assert best is not None
    return best


def tensors_of(folder: Path, stage: str = "last") -> dict[str, torch.Tensor]:
    """Return the tensors of a stage's checkpoint."""
    return load_checkpoint(folder / stage / f"{stage}.pt").state
