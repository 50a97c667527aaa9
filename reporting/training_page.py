"""The page of a training: what came out, what it gets wrong, what it learnt from and with what."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import datetime, timezone
from pathlib import Path

import cv2
import numpy as np
import torch

from data.dataset_index import DatasetIndex
from data.report import DataReport
from evaluation.evaluator import Evaluation
from reporting.colours import ACCENT, ALERT, series_colour
from reporting.drawing import Tile
from reporting.page import Page
from reporting.svg import Series, line_chart
from reporting.training_charts import MOST_COLOURS, confidence_charts, learning_charts
from reporting.training_pictures import Missed
from settings.train import TrainSettings

WORST_LISTED = 100
MOST_ROWS = 25
"""Classes listed openly; of more, the weakest are, and the whole list is folded."""
WEAKEST = 10
PAIRS = 10


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
    """Of the best stage, complete on disk."""
    finished: bool = False
    seconds: tuple[float, ...] = ()
    compared: Sequence[Tile] = ()
    missed: Sequence[Missed] = ()
    worst: Sequence[Tile] = ()


def training_page(story: ReportData, folder: Path) -> Page:
    """The page, with the picture files of `folder` that exist."""
    assert story.best is not None
    epoch, evaluation = story.best
    names, scores, at = story.train.class_names, evaluation.scores, evaluation.at_confidence
    state = "finished" if story.finished else "not finished when this was written"
    done = story.last[0] + 1 if story.last else epoch + 1
    page = Page(
        "Training report",
        f"{story.settings.model}, {_count(len(names), 'class', 'classes')}, "
        f"{done} of {story.settings.epochs} epochs, {state}. "
        f"Figures are of the best weights, from epoch {epoch + 1}, on the validation images.",
    )
    page.numbers(
        [
            ("mAP at IoU 0.5", f"{scores.map50:.3f}"),
            ("mAP at IoU 0.5 to 0.95", f"{scores.map50_95:.3f}"),
            (f"precision at confidence {scores.confidence:.2f}", f"{scores.precision:.3f}"),
            (f"recall at confidence {scores.confidence:.2f}", f"{scores.recall:.3f}"),
            (
                f"objects found at confidence {at.confidence:g}",
                f"{at.true_positives} of {at.true_positives + at.false_negatives}",
            ),
        ]
    )
    _results(page, story)
    page.section("Curves")
    page.charts(learning_charts(folder / "results.csv"))
    page.heading("Precision and recall of the best weights, at IoU 0.5")
    page.charts(confidence_charts(evaluation.classes, names), large=True)
    _mistakes(page, story, folder)
    _data(page, story, folder)
    _settings(page, story.settings)
    _environment(page, story)
    return page


def _results(page: Page, story: ReportData) -> None:
    assert story.best is not None
    _, evaluation = story.best
    names, scores, table = story.train.class_names, evaluation.scores, evaluation.classes
    page.section("Results by class")
    rows: list[list[object]] = [
        [
            "all classes",
            int(evaluation.labels_per_class.sum()),
            scores.precision,
            scores.recall,
            float(table.f1.mean()) if len(table.f1) else 0.0,
            scores.map50,
            scores.map50_95,
        ]
    ]
    ranks = {int(c): rank for rank, c in enumerate(table.classes)}
    for number, name in enumerate(names):
        rank = ranks.get(number)
        values: list[object] = (
            [""] * 5
            if rank is None
            else [
                float(table.precision[rank]),
                float(table.recall[rank]),
                float(table.f1[rank]),
                float(table.ap[rank, 0]),
                float(table.ap[rank].mean()),
            ]
        )
        rows.append([name, int(evaluation.labels_per_class[number]), *values])
    header = ("class", "labels", "precision", "recall", "F1", "AP50", "AP50-95")
    if len(names) <= MOST_ROWS:
        page.table(header, rows, total=True)
    else:
        judged = sorted(
            (row for row in rows[1:] if row[5] != ""), key=lambda row: float(str(row[5]))
        )
        page.table(header, [rows[0], *judged[:WEAKEST]], total=True)
        page.text(f"Listed are the {min(WEAKEST, len(judged))} classes of the lowest AP50.")
        page.table(header, rows, total=True, folded=f"All {len(names)} classes")
    page.text(
        f"Precision, recall and F1 are at confidence {scores.confidence:.3f}, where the mean F1 of "
        "the classes is best. A class without labels in the validation images has no figures."
    )
    page.heading("Stages kept")
    page.table(
        ("stage", "epoch", "mAP50", "mAP50-95", "precision", "recall", "files"), _stages(story)
    )


def _stages(story: ReportData) -> list[list[object]]:
    rows: list[list[object]] = []
    kept = ", ".join(f"{path.name} ({_megabytes(path)})" for path in story.files if path.is_file())
    for name, stage, files in (
        ("best", story.best, kept or "best.pt"),
        ("last", story.last, "last.pt"),
    ):
        if stage:
            epoch, scores = stage[0], stage[1].scores
            figures = [scores.map50, scores.map50_95, scores.precision, scores.recall]
            rows.append([name, epoch + 1, *figures, files])
    return rows


def _mistakes(page: Page, story: ReportData, folder: Path) -> None:
    assert story.best is not None
    at = story.best[1].at_confidence
    page.section("What it gets wrong")
    page.picture(
        folder / "confusion_matrix.png",
        "Which class is taken for which. The last column holds what was invented, the last row "
        "what was missed.",
    )
    pairs = _confused(story.best[1].confusion.matrix, story.train.class_names)
    if pairs:
        page.table(("true class", "taken for", "objects", "share of the true class"), pairs)
    page.heading("Images that miss most")
    if story.missed:
        page.text(
            f"At confidence {at.confidence:g}, {_count(len(story.missed), 'validation image')} "
            f"{'misses' if len(story.missed) == 1 else 'miss'} at least one labelled object; those "
            "that miss most come first. Look for labels that are wrong, too."
        )
        page.key([(ALERT, "missed"), (ACCENT, "found")])
        page.gallery(story.worst)
        page.table(
            ("file", "missed", "labelled"),
            [[one.path, one.missed, one.total] for one in story.missed[:WORST_LISTED]],
            folded=f"The first {WORST_LISTED} of them"
            if len(story.missed) > WORST_LISTED
            else "All of them",
        )
    else:
        page.text(f"No labelled object is missed at confidence {at.confidence:g}.")
    page.section("Labels and detections")
    page.text(
        f"Validation images, each with its labels and then with what is detected at confidence "
        f"{at.confidence:g} or more."
    )
    names = story.train.class_names
    if len(names) <= MOST_COLOURS:
        page.key([(series_colour(number), name) for number, name in enumerate(names)])
    page.gallery(story.compared, pairs=True)


def _confused(matrix: np.ndarray, names: Sequence[str]) -> list[list[object]]:
    """The classes most often taken for another: true, predicted, count and share."""
    pairs = matrix[:-1, :-1].copy()
    np.fill_diagonal(pairs, 0)
    order = np.argsort(-pairs, axis=None, kind="stable")[:PAIRS]
    rows: list[list[object]] = []
    for predicted, true in zip(*np.unravel_index(order, pairs.shape), strict=True):
        count = int(pairs[predicted, true])
        if count:
            rows.append([names[true], names[predicted], count, count / int(matrix[:, true].sum())])
    return rows


def _data(page: Page, story: ReportData, folder: Path) -> None:
    page.section("Data")
    splits = (("training", story.train), ("validation", story.validation))
    rows: list[list[object]] = []
    for number, (name, index) in enumerate(splits):
        report = story.reports[number] if number < len(story.reports) else None
        backgrounds = int((np.diff(index.offsets) == 0).sum())
        bad: list[object] = (
            ["", "", "", ""]
            if report is None
            else [
                report.bad_images.count,
                report.bad_annotations.count,
                report.clipped,
                report.without_area + report.duplicate_boxes,
            ]
        )
        rows.append([name, len(index), backgrounds, len(index.boxes), *bad])
    page.table(
        (
            "split",
            "images",
            "without objects",
            "boxes",
            "bad images",
            "bad annotations",
            "boxes clipped",
            "boxes left out",
        ),
        rows,
    )
    for report in story.reports:
        troubles = [*report.bad_images.examples, *report.bad_annotations.examples]
        if troubles:
            page.table((f"examples from {report.index_file}",), [[one] for one in troubles])
    page.heading("Boxes by class")
    names = story.train.class_names
    counts = zip(story.train.counts().tolist(), story.validation.counts().tolist(), strict=True)
    page.bars(
        ("class", "training", "validation"),
        list(zip(names, counts, strict=True)),
        folded=f"All {len(names)} classes" if len(names) > MOST_ROWS else "",
    )
    page.picture(
        folder / "labels.png", "Training labels: how many, where their centres lie, how large."
    )
    page.picture(
        folder / "anchors.png",
        "Sizes of the training boxes, and what the network's anchors may answer for.",
    )
    page.picture(folder / "train_batch0.jpg", "The first training batch, as the network gets it.")


def _settings(page: Page, settings: TrainSettings) -> None:
    page.section("Settings")
    defaults = TrainSettings()
    rows: list[list[object]] = []
    changed: list[list[object]] = []
    for item in fields(TrainSettings):
        value, default = getattr(settings, item.name), getattr(defaults, item.name)
        row: list[object] = [item.name, _plain(value), _plain(default), item.metadata["spec"].help]
        rows.append(row)
        if value != default:
            changed.append(row)
    header = ("setting", "used", "default", "meaning")
    if changed:
        page.table(header, changed)
    else:
        page.text("Every setting has its default.")
    page.table(header, rows, folded=f"All {len(rows)} settings")


def _environment(page: Page, story: ReportData) -> None:
    page.section("Time and environment")
    seconds = np.array(story.seconds or [0.0])
    rows: list[list[object]] = [
        ["written", f"{datetime.now(timezone.utc):%Y-%m-%d %H:%M} UTC"],
        ["time for these epochs", _duration(float(seconds.sum()))],
        [
            "time per epoch",
            f"{np.median(seconds):.1f} s (median; {seconds.min():.1f} to {seconds.max():.1f} s)",
        ],
        ["images per second", f"{len(story.train) / max(float(np.median(seconds)), 1e-9):.1f}"],
        ["processor", story.device],
        ["CPU cores", str(os.cpu_count())],
        ["started from", str(story.weights) if story.weights else "random weights"],
        ["torch", torch.__version__],
        ["CUDA", str(torch.version.cuda or "not in this build")],
        ["Python", platform.python_version()],
        ["NumPy", np.__version__],
        ["OpenCV", cv2.__version__],
        ["system", platform.platform()],
    ]
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        most = torch.cuda.max_memory_allocated() / 2**30
        rows.append(["GPU memory, at most", f"{most:.2f} GiB"])
    page.table(("", ""), rows)
    if len(story.seconds) > 1:
        epochs = np.arange(1, len(seconds) + 1)
        page.charts(
            [
                line_chart(
                    [Series(epochs, seconds, ACCENT)],
                    title="Time per epoch",
                    x_label="epoch",
                    y_label="seconds",
                    whole_x=True,
                )
            ]
        )


def _plain(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return ", ".join(map(str, value))
    return str(value) if value != "" else "''"


def _count(number: int, noun: str, plural: str = "") -> str:
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def _megabytes(path: Path) -> str:
    return f"{path.stat().st_size / 1e6:.1f} MB"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{seconds:.1f} s"
