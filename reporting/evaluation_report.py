"""The report of an evaluation: figures, examples, and what pages of trainings show of it too."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from data.dataset_index import DatasetIndex
from data.images import write_image
from evaluation.evaluator import Evaluation, ground_truth
from evaluation.metrics import found_labels
from reporting import plots
from reporting.drawing import (
    ACCENT,
    ALERT,
    Tile,
    annotated_tile,
    box_labels,
    class_colours,
    contact_sheet,
    fit,
    outline,
    read_if_possible,
    shorten,
)
from reporting.page import PAGE, SHEET_QUALITY, file_uri, write_page

WORST_SHOWN = 12
"""Images with missed objects in the gallery."""
COMPARED = 8
"""Images of the split with labels and detections side by side."""
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


def write_evaluation_report(
    folder: Path, evaluation: Evaluation, index: DatasetIndex, read: Sequence[str], weights: Path
) -> Path:
    """Write figures, sheets of examples and `report.html` of an evaluation into a folder.

    `read` has the lines of reading the data; return the page.
    """
    names = index.class_names
    for name, figure in evaluation_figures(evaluation, names):
        plots.save_figure(figure, folder / name)
    compared, missed = compare_images(evaluation, index), missed_objects(evaluation, index)
    worst = missed_tiles(missed, evaluation, index)
    for name, sheet in evaluation_sheets(compared, worst):
        write_image(folder / name, sheet, quality=SHEET_QUALITY)
    figures = {path.stem: file_uri(path) for path in sorted(folder.glob("*.png"))}
    return write_page(
        folder / PAGE,
        "evaluation_report.html",
        **evaluation_context(evaluation, names, figures),
        images=len(index),
        read=read,
        weights=str(weights),
        compared=compared,
        missed=missed,
        worst=worst,
    )


def evaluation_figures(
    evaluation: Evaluation, class_names: Sequence[str]
) -> Iterator[tuple[str, Figure]]:
    """Yield the curves and the confusion matrix with their file names."""
    classes, matrix = evaluation.classes, evaluation.confusion.matrix
    yield "pr_curve.png", plots.precision_recall(classes, class_names)
    for quantity in plots.CURVES:
        figure = plots.over_confidence(classes, class_names, quantity)
        yield f"{quantity.lower()}_curve.png", figure
    yield "confusion_matrix.png", plots.confusion(matrix, class_names)


def evaluation_sheets(
    compared: Sequence[Tile], worst: Sequence[Tile]
) -> Iterator[tuple[str, np.ndarray]]:
    """Yield the contact sheets of both galleries with their file names."""
    yield "validation.jpg", contact_sheet(compared)
    nothing = Tile(np.full((8, 320, 3), 255, np.uint8), "no labelled object is missed")
    yield "worst.jpg", contact_sheet(worst or [nothing])


def evaluation_context(
    evaluation: Evaluation, names: Sequence[str], figures: Mapping[str, object]
) -> dict[str, Any]:
    """Return the values of `evaluation.html`, its galleries aside."""
    results = class_rows(evaluation, names)
    ranked = sorted((row for row in results[1:] if row[5] != ""), key=lambda row: float(row[5]))
    shown = zip(plots.figure_names(names), names, strict=True)
    return {
        "evaluation": evaluation,
        "figures": figures,
        "results": results,
        "weakest": [results[0], *ranked[:WEAKEST]] if len(names) > MOST_ROWS else [],
        "unnamed": [(label, name) for label, name in shown if label != shorten(name)],
        "confused": confused_pairs(evaluation.confusion.matrix, names),
        "missed_colours": [(ALERT, "missed"), (ACCENT, "found")],
        "class_colours": class_colours(names),
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


def compare_images(evaluation: Evaluation, index: DatasetIndex) -> list[Tile]:
    """Return images spread over the split, each with its labels and then with its detections."""
    tiles, names = [], index.class_names
    spread = np.linspace(0, len(index) - 1, COMPARED).round().astype(int)
    for position in np.unique(spread).tolist():
        rows = evaluation.detections.get(position)
        image = read_if_possible(index.paths[position], upright=index.upright)
        if rows is None or image is None:
            continue
        name = shorten(PurePath(index.paths[position]).name)
        boxes, classes = index.boxes_of(position), index.classes_of(position)
        detected = rows[:, 5].astype(int)
        labelled, found = _count(len(boxes), "label"), _count(len(rows), "detection")
        tiles += [
            annotated_tile(image, f"{name}: {labelled}", boxes, classes, names),
            annotated_tile(image, f"{name}: {found}", rows[:, :4], detected, names, rows[:, 4]),
        ]
    return tiles


def missed_objects(evaluation: Evaluation, index: DatasetIndex) -> list[Missed]:
    """Return the images that miss objects at the reported confidence: most missed first, then the
    larger share.
    """
    missed = []
    for position in sorted(evaluation.detections):
        found = found_labels(evaluation.detections[position], ground_truth(index, position))
        if not found.all():
            count = int((~found).sum())
            missed.append(Missed(position, index.paths[position], count, len(found)))
    return sorted(missed, key=lambda one: (-one.missed, one.total))


def missed_tiles(
    images: Sequence[Missed], evaluation: Evaluation, index: DatasetIndex
) -> list[Tile]:
    """Draw the first images: found objects thin and blue, missed ones thick, orange and named."""
    tiles = []
    for number, one in enumerate(images[:WORST_SHOWN], start=1):
        image = read_if_possible(one.path, upright=index.upright)
        if image is None:
            continue
        small, scale = fit(image)
        labels, canvas = ground_truth(index, one.position), small.copy()
        found = found_labels(evaluation.detections[one.position], labels)
        boxes = np.round(labels[:, 1:] * scale)
        for box in boxes[found]:
            outline(canvas, box, ACCENT, 1)
        for box in boxes[~found]:
            outline(canvas, box, ALERT, 3)
        shown = box_labels(boxes[~found], labels[~found, 0], index.class_names, colour=ALERT)
        name = shorten(PurePath(one.path).name)
        caption = f"{number}. {name}: {one.missed} of {one.total} missed"
        tiles.append(Tile(canvas, caption, shown))
    return tiles


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
