"""The values of a training's HTML page."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import datetime, timezone
from pathlib import Path
from statistics import median

import cv2
import numpy as np
import torch

from data.dataset_index import DatasetIndex
from data.report import DataReport
from evaluation.evaluator import Evaluation
from reporting import plots
from reporting.drawing import Tile
from reporting.evaluation_report import Missed, evaluation_context
from reporting.page import file_uri, png_uri
from settings.train import TrainSettings
from utils.cpus import available_cpus
from utils.logs import duration


@dataclass(frozen=True)
class ReportData:
    """What is known of a training so far; `best` and `last` are (epoch, evaluation)."""

    settings: TrainSettings
    train: DatasetIndex
    validation: DatasetIndex
    device: str
    """The processor in words."""
    weights: Path | None = None
    """The checkpoint it started from."""
    reports: Sequence[DataReport] = ()
    """What reading the training and the validation split found."""
    best: tuple[int, Evaluation] | None = None
    last: tuple[int, Evaluation] | None = None
    files: tuple[Path, ...] = ()
    """Of the best weights, complete on disk."""
    finished: bool = False
    seconds: tuple[float, ...] = ()
    """Of each epoch, evaluation and saving included."""
    batch: Sequence[Tile] = ()
    compared: Sequence[Tile] = ()
    missed: Sequence[Missed] = ()
    worst: Sequence[Tile] = ()


def page_context(data: ReportData, folder: Path) -> dict[str, object]:
    """Return the values of `training_report.html`, with the figures of `folder` that exist."""
    assert data.best is not None
    names, evaluation = data.train.class_names, data.best[1]
    seconds = data.seconds or (0.0,)
    figures = {path.stem: file_uri(path) for path in sorted(folder.glob("*.png"))}
    if len(data.seconds) > 1:
        chart = plots.line(data.seconds, title="Time per epoch", x="epoch", y="seconds")
        figures["seconds"] = png_uri(plots.figure_png(chart))
    splits = (data.train, data.validation)
    counts = [index.counts().tolist() for index in splits]
    return {
        **evaluation_context(evaluation, names, figures),
        "data": data,
        "missed": data.missed,
        "worst": data.worst,
        "compared": data.compared,
        "files": [(p.name, p.stat().st_size / 1e6) for p in data.files if p.is_file()],
        "backgrounds": [int((np.diff(i.offsets) == 0).sum()) for i in splits],
        "boxes_by_class": list(zip(names, *counts, strict=True)),
        "settings": setting_rows(data.settings),
        "written": f"{datetime.now(timezone.utc):%Y-%m-%d %H:%M} UTC",
        "seconds": seconds,
        "median": median(seconds),
        "total_time": duration(sum(seconds)),
        "environment": environment(),
    }


def setting_rows(settings: TrainSettings) -> list[list[str]]:
    """Return name, value, default and meaning of every setting."""

    def plain(value: object) -> str:
        if isinstance(value, bool):
            return str(value).lower()
        return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value) or "''"

    both = (settings, TrainSettings())
    return [
        [item.name, *(plain(getattr(one, item.name)) for one in both), item.metadata["spec"].help]
        for item in fields(TrainSettings)
    ]


def environment() -> list[tuple[str, str]]:
    """Return hardware and versions."""
    rows = [
        ("CPU cores", str(available_cpus())),
        ("torch", torch.__version__),
        ("CUDA", str(torch.version.cuda or "not in this build")),
        ("Python", platform.python_version()),
        ("NumPy", np.__version__),
        ("OpenCV", cv2.__version__),
        ("system", platform.platform()),
    ]
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        most = torch.cuda.max_memory_allocated() / 2**30
        rows.append(("GPU memory, at most", f"{most:.2f} GiB"))
    return rows
