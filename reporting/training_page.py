"""The values of a training's HTML page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import datetime, timezone
from pathlib import Path
from statistics import median

import numpy as np

from data.dataset_index import DatasetIndex
from data.report import DataReport
from evaluation.evaluator import Evaluation
from models.checkpoint import CheckpointMetadata
from reporting import plots
from reporting.evaluation_report import MOST_ROWS, Examples, evaluation_context
from reporting.page import chart_uri, environment
from reporting.tiles import Tile
from settings.detect import DetectionSettings
from settings.train import DEFAULT_MODEL, TrainSettings
from utils.logs import duration
from utils.official_weights import COCO_START


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
    examples: Examples = field(default_factory=Examples)
    names: Mapping[str, str] = field(default_factory=dict)
    """Original names of image files by path, where a platform renamed them."""
    command: str = ""
    """The command that runs this training once more."""
    before: tuple[CheckpointMetadata, Sequence[str]] | None = None
    """What `weights` state of the training that they come from, and their class names."""


def page_context(data: ReportData, charts: Mapping[str, str]) -> dict[str, object]:
    """Return the values of `training_report.html`; `charts` are data URIs by name."""
    assert data.best is not None
    names, evaluation = data.train.class_names, data.best[1]
    seconds = data.seconds or (0.0,)
    figures = dict(charts)
    if len(data.seconds) > 1:
        chart = plots.line(data.seconds, title="Time per epoch", x="epoch", y="seconds")
        figures["seconds"] = chart_uri(chart, data.settings.language)
    splits = (data.train, data.validation)
    counts = [index.counts().tolist() for index in splits]
    without_name = f"Network of {data.weights.name}" if data.weights else DEFAULT_MODEL
    return {
        **evaluation_context(evaluation, names, figures),
        "data": data,
        "network": data.settings.model or without_name,
        "examples": data.examples,
        "before": before_and_now(data),
        "files": [(p.name, p.stat().st_size / 1e6) for p in data.files if p.is_file()],
        "backgrounds": [int((np.diff(i.offsets) == 0).sum()) for i in splits],
        "boxes_by_class": list(zip(names, *counts, strict=True)),
        "settings": setting_rows(data.settings),
        "coco_start": COCO_START,
        "written": f"{datetime.now(timezone.utc):%Y-%m-%d %H:%M} UTC",
        "seconds": seconds,
        "median": median(seconds),
        "total_time": duration(sum(seconds)),
        "environment": environment(),
    }


def before_and_now(data: ReportData) -> list[list[object]]:
    """Return figure, value before, value now and change since the training whose model this one
    started from; nothing where that model states no mAP.
    """
    if data.before is None or data.best is None or data.before[0].map50 is None:
        return []
    stated, names = data.before
    scores, train = data.best[1].scores, data.train
    pairs: list[tuple[str, float | None, float]] = [
        ("mAP50", stated.map50, scores.map50),
        ("mAP50-95", stated.map50_95, scores.map50_95),
        ("training images", stated.labelled_images, len(train)),
    ]
    objects = dict(zip(names, map(int, stated.labelled_objects or ()), strict=False))
    if len(names) <= MOST_ROWS:
        for name, count in zip(train.class_names, train.counts().tolist(), strict=True):
            pairs.append((f"training objects: {name}", objects.get(name), count))
    return [
        [name, "" if old is None else old, now, "" if old is None else _change(now - old)]
        for name, old, now in pairs
    ]


def _change(value: float) -> str:
    return f"{value:+.3f}" if isinstance(value, float) else f"{value:+,}"


def setting_rows(settings: TrainSettings | DetectionSettings) -> list[list[str]]:
    """Return name, value, default and meaning of every setting."""

    def plain(value: object) -> str:
        if isinstance(value, bool):
            return str(value).lower()
        return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value) or "''"

    both = (settings, type(settings)())
    return [
        [item.name, *(plain(getattr(one, item.name)) for one in both), item.metadata["spec"].help]
        for item in fields(settings)
    ]
