"""The report of an evaluation: figures, examples, and what pages of trainings show of it too."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from data.dataset_index import DatasetIndex
from data.images import write_image
from evaluation.evaluator import Evaluation
from reporting import class_plots, plots
from reporting.drawing import class_colours, read_if_possible, shorten
from reporting.image_errors import (
    COLOURS,
    ImageErrors,
    error_tiles,
    image_errors,
    ranked,
)
from reporting.page import PAGE, SHEET_QUALITY, chart_uri, environment, write_page
from reporting.tiles import ImageName, Tile, annotated_tile, contact_sheet
from utils.language.catalogue import ENGLISH
from utils.logs import counted

COMPARED = 8
"""Images of the split with labels and detections side by side."""
MOST_ROWS = 25
"""Classes listed openly; of more, the weakest are, and the whole list is folded."""
WEAKEST = 10
PAIRS = 10
"""Confused pairs of classes listed."""


@dataclass(frozen=True)
class Examples:
    """The images that a page shows of an evaluation."""

    compared: Sequence[Tile] = ()
    missed: Sequence[ImageErrors] = ()
    """All images that miss objects, most first; the first are drawn."""
    missed_tiles: Sequence[Tile] = ()
    invented: Sequence[ImageErrors] = ()
    invented_tiles: Sequence[Tile] = ()
    names: Mapping[str, str] = field(default_factory=dict)
    """Original names of image files by path."""


def examples_of(
    evaluation: Evaluation, index: DatasetIndex, names: Mapping[str, str] | None = None
) -> Examples:
    """Choose and draw the images of an evaluation that a page shows.

    `names` are the original names of image files by path, where a platform renamed them.
    """
    known = names or {}
    errors = image_errors(evaluation, index)
    missed, invented = ranked(errors, "missed"), ranked(errors, "invented")
    return Examples(
        compare_images(evaluation, index, known),
        missed,
        error_tiles(missed, evaluation, index, "missed", known),
        invented,
        error_tiles(invented, evaluation, index, "invented", known),
        known,
    )


def write_evaluation_report(
    folder: Path,
    evaluation: Evaluation,
    index: DatasetIndex,
    read: Sequence[str],
    weights: Path,
    *,
    names: Mapping[str, str] | None = None,
    language: str = ENGLISH,
) -> Path:
    """Write figures, sheets of examples and `report.html` of an evaluation into a folder.

    `read` has the lines of reading the data, `names` those of `examples_of`; return the page, which
    is in `language`.
    """
    class_names = index.class_names
    figures = {}
    for name, figure in evaluation_figures(evaluation, class_names):
        plots.save_figure(figure, folder / name)
        figures[Path(name).stem] = chart_uri(figure, language)
    examples = examples_of(evaluation, index, names)
    for name, sheet in evaluation_sheets(examples):
        write_image(folder / name, sheet, quality=SHEET_QUALITY)
    return write_page(
        folder / PAGE,
        "evaluation_report.html",
        language=language,
        **evaluation_context(evaluation, class_names, figures),
        examples=examples,
        images=len(index),
        read=read,
        weights=weights.name,
        environment=[("weights", str(weights)), *environment()],
    )


def evaluation_figures(
    evaluation: Evaluation, class_names: Sequence[str]
) -> Iterator[tuple[str, Figure]]:
    """Yield the curves and the confusion matrix with their file names."""
    classes, matrix = evaluation.classes, evaluation.confusion.matrix
    yield "pr_curve.png", class_plots.precision_recall(classes, class_names)
    for quantity in class_plots.CURVES:
        figure = class_plots.over_confidence(classes, class_names, quantity)
        yield f"{quantity.lower()}_curve.png", figure
    yield "confusion_matrix.png", class_plots.confusion(matrix, class_names)


def evaluation_sheets(examples: Examples) -> Iterator[tuple[str, np.ndarray]]:
    """Yield the contact sheets of the galleries with their file names."""
    yield "validation.jpg", contact_sheet(examples.compared)
    strip = np.full((8, 320, 3), 255, np.uint8)
    for name, tiles, nothing in (
        ("worst.jpg", examples.missed_tiles, "no labelled object is missed"),
        ("invented.jpg", examples.invented_tiles, "nothing is detected that is not labelled"),
    ):
        yield name, contact_sheet(tiles or [Tile(strip, nothing)])


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
        "unlabelled": not all(row[1] for row in results),
        "weakest": [results[0], *ranked[:WEAKEST]] if len(names) > MOST_ROWS else [],
        "unnamed": [(label, name) for label, name in shown if label != shorten(name)],
        "confused": confused_pairs(evaluation.confusion.matrix, names),
        "error_colours": COLOURS,
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


def compare_images(
    evaluation: Evaluation, index: DatasetIndex, known: Mapping[str, str]
) -> list[Tile]:
    """Return images spread over the split, each with its labels and then with its detections.

    `known` are original names of image files by path.
    """
    tiles, names = [], index.class_names
    spread = np.linspace(0, len(index) - 1, COMPARED).round().astype(int)
    for position in np.unique(spread).tolist():
        rows = evaluation.detections.get(position)
        image = read_if_possible(index.paths[position], upright=index.upright)
        if rows is None or image is None:
            continue
        name = ImageName.of(index.paths[position], known)
        boxes, classes = index.boxes_of(position), index.classes_of(position)
        detected = rows[:, 5].astype(int)
        labelled = counted(len(boxes), "%s label", "%s labels")
        found = counted(len(rows), "%s detection", "%s detections")
        whole = name.whole
        tiles += [
            annotated_tile(image, f"{name.short}: {labelled}", boxes, classes, names, title=whole),
            annotated_tile(
                *(image, f"{name.short}: {found}", rows[:, :4], detected, names, rows[:, 4]),
                title=whole,
            ),
        ]
    return tiles
