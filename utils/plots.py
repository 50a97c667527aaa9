"""Figures of a training run: curves over epochs, precision against recall, confusion."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from utils.atomic import replace_file
from utils.metrics import ClassMetrics

INK = "#22303c"
COLOURS = ("#c8102e", "#0072b2", "#2e8b57", "#9b59b6", "#e67e22", "#7f8c8d", "#16a085", "#b5651d")
DPI = 120


def _save(figure: Figure, path: Path) -> None:
    with replace_file(path) as temporary:
        figure.savefig(temporary, format="png", dpi=DPI)


def _tidy(axes: Axes, *, title: str, x: str, y: str) -> None:
    axes.set_title(title, fontsize=10, color=INK, loc="left")
    axes.set_xlabel(x, fontsize=9)
    axes.set_ylabel(y, fontsize=9)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8)


def _legend(axes: Axes) -> None:
    """A legend only where something carries a label."""
    if axes.get_legend_handles_labels()[0]:
        axes.legend(fontsize=8, frameon=False)


def draw_learning_curves(results_csv: Path, path: Path) -> None:
    """Losses, quality and learning rate over the epochs of `results.csv`."""
    table = pd.read_csv(results_csv, skipinitialspace=True)
    table.columns = [str(name).strip() for name in table.columns]
    epochs = table["epoch"]
    figure = Figure(figsize=(12, 6.4), layout="constrained")
    grid = figure.subplots(2, 3)
    for axes, part, title in zip(
        grid[0],
        ("box_loss", "obj_loss", "cls_loss"),
        ("Box loss", "Objectness loss", "Class loss"),
        strict=True,
    ):
        axes.plot(epochs, table[f"train/{part}"], color=COLOURS[0], label="training")
        axes.plot(epochs, table[f"val/{part}"], color=COLOURS[1], label="validation")
        _tidy(axes, title=title, x="epoch", y="loss")
        _legend(axes)
    for axes, names, title in (
        (grid[1][0], ("precision", "recall"), "Precision and recall"),
        (grid[1][1], ("mAP_0.5", "mAP_0.5:0.95"), "Average precision"),
    ):
        for colour, name in zip(COLOURS, names, strict=False):
            axes.plot(epochs, table[f"metrics/{name}"], color=colour, label=name)
        axes.set_ylim(0, 1)
        _tidy(axes, title=title, x="epoch", y="")
        _legend(axes)
    for colour, (name, label) in zip(
        COLOURS, (("x/lr0", "biases"), ("x/lr1", "weights")), strict=False
    ):
        grid[1][2].plot(epochs, table[name], color=colour, label=label)
    _tidy(grid[1][2], title="Learning rate", x="epoch", y="")
    _legend(grid[1][2])
    _save(figure, path)


def draw_precision_recall(classes: ClassMetrics, class_names: Sequence[str], path: Path) -> None:
    """Precision against recall at IoU 0.5, a line per class (up to 20) and their mean."""
    figure = Figure(figsize=(7, 5), layout="constrained")
    axes = figure.subplots()
    curves = classes.envelope
    recall = np.linspace(0, 1, curves.shape[1])
    if len(classes.classes) <= 20:
        for i, c in enumerate(classes.classes):
            axes.plot(
                recall,
                curves[i],
                color=COLOURS[i % len(COLOURS)],
                linewidth=1.2,
                label=f"{class_names[c]}  {classes.ap[i, 0]:.3f}",
            )
    if len(classes.classes):
        axes.plot(
            recall,
            curves.mean(0),
            color=INK,
            linewidth=2.4,
            label=f"mean of classes  {classes.ap[:, 0].mean():.3f}",
        )
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1.02)
    _tidy(
        axes,
        title="Precision against recall at IoU 0.5 (average precision in the legend)",
        x="recall",
        y="precision",
    )
    _legend(axes)
    _save(figure, path)


def draw_confusion(matrix: np.ndarray, class_names: Sequence[str], path: Path) -> None:
    """Confusion matrix [nc + 1, nc + 1], rows predicted, columns true, columns to 1."""
    names = [*class_names, "background"]
    share = matrix / np.maximum(matrix.sum(0, keepdims=True), 1)
    side = min(4.2 + 0.45 * len(names), 16)
    figure = Figure(figsize=(side + 0.8, side), layout="constrained")
    axes = figure.subplots()
    picture = axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    axes.set_xticks(range(len(names)), names, rotation=45, ha="right", fontsize=8)
    axes.set_yticks(range(len(names)), names, fontsize=8)
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
    figure.colorbar(picture, ax=axes, shrink=0.7)
    _save(figure, path)


def draw_importances(shares: Mapping[str, float], path: Path) -> None:
    """How much each hyper-parameter matters, as shares of 1: a bar each, the largest on top."""
    ordered = sorted(shares.items(), key=lambda pair: pair[1])
    figure = Figure(figsize=(7, 1.2 + 0.25 * len(ordered)), layout="constrained")
    axes = figure.subplots()
    bars = axes.barh([name for name, _ in ordered], [share for _, share in ordered])
    for bar in bars:
        bar.set_color(COLOURS[1])
    _tidy(axes, title="What the fitness depends on", x="share", y="")
    _save(figure, path)
