"""Figures of a training run: curves over epochs, precision against recall, confusion."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from evaluation.metrics import ClassMetrics
from reporting.colours import INK, MUTED, SERIES, series_colour
from reporting.lettering import label_of, labels_of
from reporting.results_csv import read_results
from utils.atomic import replace_file

DPI = 120
MOST_LINES = 20
"""Classes drawn in colours of their own; of more, all lines are grey behind their mean."""
CURVES = {"precision": "precision_curve", "recall": "recall_curve", "F1": "f1_curve"}
"""The quantities over confidence, and where `ClassMetrics` has them."""


def save_figure(figure: Figure, path: Path) -> None:
    """Replace the PNG file `path` by the figure in one step."""
    with replace_file(path) as temporary:
        figure.savefig(temporary, format="png", dpi=DPI)


def tidy(axes: Axes, *, title: str, x: str, y: str) -> None:
    """The look that every figure shares; names may hold any character."""
    axes.set_title(title, fontsize=10, color=INK, loc="left", parse_math=False)
    axes.set_xlabel(x, fontsize=9)
    axes.set_ylabel(y, fontsize=9)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8)


def _legend(axes: Axes) -> None:
    """A legend only where something carries a label."""
    if axes.get_legend_handles_labels()[0]:
        legend = axes.legend(fontsize=8, frameon=False)
        for text in legend.get_texts():
            text.set_parse_math(False)


def draw_learning_curves(results_csv: Path, path: Path) -> None:
    """Losses, quality and learning rate over the epochs of `results.csv`."""
    table = read_results(results_csv)
    epochs = table["epoch"]
    figure = Figure(figsize=(12, 6.4), layout="constrained")
    grid = figure.subplots(2, 3)
    for axes, part, title in zip(
        grid[0],
        ("box_loss", "obj_loss", "cls_loss"),
        ("Box loss", "Objectness loss", "Class loss"),
        strict=True,
    ):
        axes.plot(epochs, table[f"train/{part}"], color=SERIES[0], label="training")
        axes.plot(epochs, table[f"val/{part}"], color=SERIES[1], label="validation")
        tidy(axes, title=title, x="epoch", y="loss")
        _legend(axes)
    for axes, names, title in (
        (grid[1][0], ("precision", "recall"), "Precision and recall"),
        (grid[1][1], ("mAP_0.5", "mAP_0.5:0.95"), "Average precision"),
    ):
        for colour, name in zip(SERIES, names, strict=False):
            axes.plot(epochs, table[f"metrics/{name}"], color=colour, label=name)
        axes.set_ylim(0, 1)
        tidy(axes, title=title, x="epoch", y="")
        _legend(axes)
    for colour, (name, label) in zip(
        SERIES, (("x/lr0", "biases"), ("x/lr1", "weights")), strict=False
    ):
        grid[1][2].plot(epochs, table[name], color=colour, label=label)
    tidy(grid[1][2], title="Learning rate", x="epoch", y="")
    _legend(grid[1][2])
    save_figure(figure, path)


def draw_precision_recall(classes: ClassMetrics, class_names: Sequence[str], path: Path) -> None:
    """Precision against recall at IoU 0.5, a line per class (up to 20) and their mean."""
    figure = Figure(figsize=(7, 5), layout="constrained")
    axes = figure.subplots()
    curves = classes.envelope
    recall = np.linspace(0, 1, curves.shape[1])
    _class_lines(axes, recall, curves, classes, class_names, notes=classes.ap[:, 0])
    if len(classes.classes):
        label = f" mean of classes  {classes.ap[:, 0].mean():.3f}"
        axes.plot(recall, curves.mean(0), color=INK, linewidth=2.4, label=label)
    tidy(
        axes,
        title="Precision against recall at IoU 0.5 (average precision in the legend)",
        x="recall",
        y="precision",
    )
    _unit_square(axes)
    save_figure(figure, path)


def draw_over_confidence(
    classes: ClassMetrics, class_names: Sequence[str], quantity: str, path: Path
) -> None:
    """One of `CURVES` at IoU 0.5 over the least confidence: a line per class, and their mean."""
    figure = Figure(figsize=(7, 5), layout="constrained")
    axes = figure.subplots()
    curves = getattr(classes, CURVES[quantity])
    title = f"{quantity[0].upper()}{quantity[1:]} over confidence"
    if len(classes.classes):
        mean, best = curves.mean(0), classes.best_index
        at = float(classes.confidence[best])
        _class_lines(axes, classes.confidence, curves, classes, class_names, notes=curves[:, best])
        label = f" mean of classes  {mean[best]:.3f}"
        axes.plot(classes.confidence, mean, color=INK, linewidth=2.4, label=label)
        axes.axvline(at, color=INK, linewidth=0.8, linestyle=":")
        title += f"; {mean[best]:.3f} at {at:.3f}, where the mean F1 is best"
    tidy(axes, title=title, x="confidence", y=quantity)
    _unit_square(axes)
    save_figure(figure, path)


def _class_lines(
    axes: Axes,
    x: np.ndarray,
    curves: np.ndarray,
    classes: ClassMetrics,
    class_names: Sequence[str],
    *,
    notes: np.ndarray,
) -> None:
    """A line per class; up to `MOST_LINES` of them in colour and listed with a number each."""
    few = len(curves) <= MOST_LINES
    for i, c in enumerate(classes.classes):
        colour = series_colour(int(c)) if few else MUTED
        (line,) = axes.plot(x, curves[i], color=colour, linewidth=1.3 if few else 0.5)
        line.set_linestyle("-" if i < len(SERIES) or not few else "--")
        if few:
            # The blank: a label that begins with "_" would be left out of the legend.
            line.set_label(f" {label_of(int(c), class_names)}  {notes[i]:.3f}")


def _unit_square(axes: Axes) -> None:
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1.02)
    _legend(axes)


def draw_confusion(matrix: np.ndarray, class_names: Sequence[str], path: Path) -> None:
    """Confusion matrix [nc + 1, nc + 1], rows predicted, columns true, columns to 1."""
    names = [*labels_of(class_names), "background"]
    share = matrix / np.maximum(matrix.sum(0, keepdims=True), 1)
    side = min(4.2 + 0.45 * len(names), 16)
    figure = Figure(figsize=(side + 0.8, side), layout="constrained")
    axes = figure.subplots()
    picture = axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    letters = min(8.0, max(560 / len(names), 2.5))
    axes.set_xticks(
        range(len(names)), names, rotation=45, ha="right", fontsize=letters, parse_math=False
    )
    axes.set_yticks(range(len(names)), names, fontsize=letters, parse_math=False)
    if len(names) <= 30:
        for row, column in zip(*np.nonzero(matrix), strict=True):
            axes.text(
                column,
                row,
                f"{share[row, column]:.2f}\n{int(matrix[row, column])}",
                ha="center",
                va="center",
                fontsize=8,
                color="white" if share[row, column] > 0.5 else INK,
            )
    axes.set_xlabel("true")
    axes.set_ylabel("predicted")
    axes.set_title(
        "Confusion at confidence 0.25 and IoU 0.45: share of the true class, and count",
        fontsize=9,
        color=INK,
        loc="left",
    )
    figure.colorbar(picture, ax=axes, shrink=0.7, fraction=0.04, pad=0.02)
    save_figure(figure, path)


def draw_importances(shares: Mapping[str, float], path: Path) -> None:
    """How much each hyper-parameter matters, as shares of 1: a bar each, the largest on top."""
    ordered = sorted(shares.items(), key=lambda pair: pair[1])
    figure = Figure(figsize=(7, 1.2 + 0.25 * len(ordered)), layout="constrained")
    axes = figure.subplots()
    axes.barh([name for name, _ in ordered], [share for _, share in ordered], color=SERIES[0])
    tidy(axes, title="What the fitness depends on", x="share", y="")
    save_figure(figure, path)
