"""The curves of a training as charts for its page: over the epochs, and over confidence."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from evaluation.metrics import ClassMetrics
from reporting.colours import INK, MUTED, SERIES, series_colour
from reporting.lettering import shortened
from reporting.results_csv import read_results
from reporting.svg import Markup, Series, line_chart

MOST_COLOURS = len(SERIES)
"""Classes told apart by colour; of more, all lines are grey behind their mean."""


def learning_charts(results_csv: Path) -> list[Markup]:
    """Losses, quality and learning rate over the epochs of `results.csv`."""
    table = read_results(results_csv)
    epochs = table["epoch"].to_numpy(float) + 1

    def chart(title: str, lines: Sequence[tuple[str, str]], unit: bool = False) -> Markup:
        series = [
            Series(epochs, table[column].to_numpy(float), colour, name)
            for (column, name), colour in zip(lines, SERIES, strict=False)
        ]
        return line_chart(
            series,
            title=title,
            x_label="epoch",
            y_range=(0.0, 1.0) if unit else None,
            whole_x=True,
        )

    losses = [
        chart(title, ((f"train/{part}", "training"), (f"val/{part}", "validation")))
        for part, title in (
            ("box_loss", "Box loss"),
            ("obj_loss", "Objectness loss"),
            ("cls_loss", "Class loss"),
        )
    ]
    return [
        *losses,
        chart(
            "Average precision",
            (("metrics/mAP_0.5", "mAP50"), ("metrics/mAP_0.5:0.95", "mAP50-95")),
            unit=True,
        ),
        chart(
            "Precision and recall",
            (("metrics/precision", "precision"), ("metrics/recall", "recall")),
            unit=True,
        ),
        chart("Learning rate", (("x/lr0", "biases"), ("x/lr1", "weights"))),
    ]


def confidence_charts(classes: ClassMetrics, names: Sequence[str]) -> list[Markup]:
    """Precision against recall, then F1, precision and recall over confidence, at IoU 0.5."""
    recall = np.linspace(0, 1, classes.envelope.shape[1])
    return [
        line_chart(
            _class_series(x, curves, classes, names),
            title=title,
            x_label=x_label,
            y_label=y_label,
            y_range=(0.0, 1.0),
        )
        for title, x_label, y_label, x, curves in (
            ("Precision against recall", "recall", "precision", recall, classes.envelope),
            ("F1", "confidence", "F1", classes.confidence, classes.f1_curve),
            ("Precision", "confidence", "precision", classes.confidence, classes.precision_curve),
            ("Recall", "confidence", "recall", classes.confidence, classes.recall_curve),
        )
    ]


def _class_series(
    x: np.ndarray, curves: np.ndarray, classes: ClassMetrics, names: Sequence[str]
) -> list[Series]:
    """A line per class, listed in colours while they are few, and the mean."""
    if not len(classes.classes):
        return []
    few = len(classes.classes) <= MOST_COLOURS
    lines = [
        Series(
            x,
            curve,
            series_colour(int(c)) if few else MUTED,
            shortened(names[c]) if few else "",
            1.4 if few else 0.5,
            names[c],
        )
        for c, curve in zip(classes.classes.tolist(), curves, strict=True)
    ]
    return [*lines, Series(x, curves.mean(0), INK, "mean of classes", 2.4)]
