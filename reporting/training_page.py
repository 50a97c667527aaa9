"""The values of a training's HTML page."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from data.dataset_index import DatasetIndex
from data.report import DataReport
from evaluation.evaluator import Evaluation
from reporting import plots
from reporting.drawing import ACCENT, ALERT, Tile, class_colours, shorten
from reporting.page import file_uri, png_uri
from settings.train import TrainSettings
from utils.logs import duration

MOST_ROWS = 25
"""Classes listed openly; of more, the weakest are, and the whole list is folded."""
WEAKEST = 10
PAIRS = 10
"""Confused pairs of classes listed."""


@dataclass(frozen=True)
class Missed:
    """The number of labelled objects of an image that were not found."""

    position: int
    path: str
    missed: int
    total: int


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
    epoch, evaluation = data.best
    names, scores, at = data.train.class_names, evaluation.scores, evaluation.at_confidence
    done = (data.last or data.best)[0] + 1
    state = "finished" if data.finished else "not finished when this was written"
    figures = {path.stem: file_uri(path) for path in sorted(folder.glob("*.png"))}
    if len(data.seconds) > 1:
        chart = plots.line(data.seconds, title="Time per epoch", x="epoch", y="seconds")
        figures["seconds"] = png_uri(plots.figure_png(chart))
    results = class_rows(evaluation, names)
    ranked = sorted((row for row in results[1:] if row[5] != ""), key=lambda row: float(row[5]))
    counts = (data.train.counts().tolist(), data.validation.counts().tolist())
    settings = setting_rows(data.settings)
    return {
        "title": "Training report",
        "lead": f"{data.settings.model}, {_count(len(names), 'class', 'classes')}, {done} of "
        f"{data.settings.epochs} epochs, {state}. Metrics are of the best weights, from epoch "
        f"{epoch + 1}, on the validation images.",
        "numbers": [
            ("mAP at IoU 0.5", f"{scores.map50:.3f}"),
            ("mAP at IoU 0.5 to 0.95", f"{scores.map50_95:.3f}"),
            (f"precision at confidence {scores.confidence:.2f}", f"{scores.precision:.3f}"),
            (f"recall at confidence {scores.confidence:.2f}", f"{scores.recall:.3f}"),
            (
                f"objects found at confidence {at.confidence:g}",
                f"{at.true_positives} of {at.true_positives + at.false_negatives}",
            ),
        ],
        "result_header": ("class", "labels", "precision", "recall", "F1", "AP50", "AP50-95"),
        "results": results,
        "weakest": [results[0], *ranked[:WEAKEST]] if len(names) > MOST_ROWS else [],
        "best_confidence": scores.confidence,
        "stages": stage_rows(data),
        "figures": figures,
        "unnamed": [
            (label, name)
            for label, name in zip(plots.figure_names(names), names, strict=True)
            if label != shorten(name)
        ],
        "confused": confused_pairs(evaluation.confusion.matrix, names),
        "confidence": at.confidence,
        "missed": [[one.path, one.missed, one.total] for one in data.missed],
        "missed_colours": [(ALERT, "missed"), (ACCENT, "found")],
        "worst": data.worst,
        "compared": data.compared,
        "class_colours": class_colours(names),
        "splits": split_rows(data),
        "bad_files": [
            (report.index_file, [[text] for text in examples])
            for report in data.reports
            if (examples := [*report.bad_images.examples, *report.bad_annotations.examples])
        ],
        "boxes_by_class": list(zip(names, *counts, strict=True)),
        "batch": data.batch,
        "changed_settings": [row for row in settings if row[1] != row[2]],
        "all_settings": settings,
        "environment": environment_rows(data),
    }


def class_rows(evaluation: Evaluation, names: Sequence[str]) -> list[list[Any]]:
    """Return metrics of all classes and of each; empty fields for a class without labels."""
    scores, table, labels = evaluation.scores, evaluation.classes, evaluation.labels_per_class
    f1 = float(table.f1.mean()) if len(table.f1) else 0.0
    total = [scores.precision, scores.recall, f1, scores.map50, scores.map50_95]
    columns = (table.precision, table.recall, table.f1, table.ap[:, 0], table.ap.mean(1))
    metrics = dict(zip(table.classes.tolist(), np.stack(columns, 1).tolist(), strict=True))
    rows = [["all classes", int(labels.sum()), *total]]
    for number, name in enumerate(names):
        rows.append([name, int(labels[number]), *metrics.get(number, [""] * 5)])
    return rows


def stage_rows(data: ReportData) -> list[list[object]]:
    """Return epoch, metrics and files of the best and the last weights."""
    files = [f"{p.name} ({p.stat().st_size / 1e6:.1f} MB)" for p in data.files if p.is_file()]
    rows: list[list[object]] = []
    for name, stage in (("best", data.best), ("last", data.last)):
        if stage:
            scores = stage[1].scores
            metrics = [scores.map50, scores.map50_95, scores.precision, scores.recall]
            shown = ", ".join(files) if files and name == "best" else f"{name}.pt"
            rows.append([name, stage[0] + 1, *metrics, shown])
    return rows


def confused_pairs(matrix: np.ndarray, names: Sequence[str]) -> list[list[object]]:
    """Return the most frequent confusions: true and predicted class, count, share of the true."""
    pairs = matrix[:-1, :-1].copy()
    np.fill_diagonal(pairs, 0)
    order = np.argsort(-pairs, axis=None, kind="stable")[:PAIRS]
    rows: list[list[object]] = []
    for predicted, true in zip(*np.unravel_index(order, pairs.shape), strict=True):
        count = int(pairs[predicted, true])
        if count:
            rows.append([names[true], names[predicted], count, count / int(matrix[:, true].sum())])
    return rows


def split_rows(data: ReportData) -> list[list[object]]:
    """Return images, boxes and faults of both splits."""
    rows: list[list[object]] = []
    for number, (name, index) in enumerate(
        (("training", data.train), ("validation", data.validation))
    ):
        faults: list[object] = [""] * 4
        if number < len(data.reports):
            report = data.reports[number]
            left_out = report.without_area + report.duplicate_boxes
            bad = (report.bad_images.count, report.bad_annotations.count)
            faults = [*bad, report.clipped, left_out]
        backgrounds = int((np.diff(index.offsets) == 0).sum())
        rows.append([name, len(index), backgrounds, len(index.boxes), *faults])
    return rows


def setting_rows(settings: TrainSettings) -> list[list[str]]:
    """Return name, value, default and meaning of every setting."""
    defaults = TrainSettings()
    return [
        [
            item.name,
            _plain(getattr(settings, item.name)),
            _plain(getattr(defaults, item.name)),
            item.metadata["spec"].help,
        ]
        for item in fields(TrainSettings)
    ]


def environment_rows(data: ReportData) -> list[tuple[str, str]]:
    """Return times, hardware and versions."""
    seconds = np.array(data.seconds or [0.0])
    median = float(np.median(seconds))
    rows = [
        ("written", f"{datetime.now(timezone.utc):%Y-%m-%d %H:%M} UTC"),
        ("time for these epochs", duration(float(seconds.sum()))),
        (
            "time per epoch",
            f"{median:.1f} s (median; {seconds.min():.1f} to {seconds.max():.1f} s)",
        ),
        ("images per second", f"{len(data.train) / max(median, 1e-9):.1f}"),
        ("processor", data.device),
        ("CPU cores", str(os.cpu_count())),
        ("started from", str(data.weights) if data.weights else "random weights"),
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


def _plain(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value) or "''"


def _count(number: int, noun: str, plural: str = "") -> str:
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"
