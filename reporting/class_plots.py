"""Figures of an evaluation: curves of each class and the confusion matrix."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

from evaluation.metrics import ClassMetrics
from reporting.drawing import ALERT, INVENTED, MUTED, SERIES, TEXT, series_colour
from reporting.plots import SHADES, fonts_for, tidy

MOST_LINES = 20
"""Classes drawn in colours of their own; of more, all lines are grey behind their mean."""
CURVES = {
    "precision": ("precision_curve", "Precision over confidence (legend: at the dotted line)"),
    "recall": ("recall_curve", "Recall over confidence (legend: at the dotted line)"),
    "F1": ("f1_curve", "F1 over confidence (legend: the best F1 @ its confidence)"),
}
"""The quantities over confidence, where `ClassMetrics` has them, and titles."""
ERROR_SHADES = {
    colour: LinearSegmentedColormap.from_list(colour, ["#ffffff", colour])
    for colour in (ALERT, INVENTED)
}
MOST_CONFUSED = 20
"""Classes of a confusion matrix; of more, those with the most errors are shown."""


def precision_recall(classes: ClassMetrics, class_names: Sequence[str]) -> Figure:
    """Plot precision over recall at IoU 0.5: a line per class (up to 20) and their mean."""
    recall = np.linspace(0, 1, classes.envelope.shape[1])
    labels = ("Precision over recall at IoU 0.5 (legend: AP50)", "recall", "precision")
    ap = classes.ap[:, 0]
    notes = [f"{value:.3f}" for value in (*ap, ap.mean() if len(ap) else 0)]
    return _class_curves((recall, classes.envelope), classes, class_names, notes, labels=labels)


def over_confidence(classes: ClassMetrics, class_names: Sequence[str], quantity: str) -> Figure:
    """Plot one of `CURVES` at IoU 0.5 over confidence: a line per class and their mean.

    The legend of F1 has the best one of each line, that of the others the value at the dotted line.
    """
    (name, title), confidence = CURVES[quantity], classes.confidence
    curves, best = getattr(classes, name), classes.best_index
    every = [*curves, curves.mean(0)] if len(curves) else []
    if quantity == "F1":
        tops = [int(curve.argmax()) for curve in every]
        notes = [
            f"{curve[top]:.3f} @ {confidence[top]:.2f}"
            for curve, top in zip(every, tops, strict=True)
        ]
    else:
        notes = [f"{curve[best]:.3f}" for curve in every]
    if len(curves):
        title += f"\nDotted: {confidence[best]:.3f}, where the smoothed mean F1 is highest"
    labels = (title, "confidence", quantity)
    figure = _class_curves((confidence, curves), classes, class_names, notes, labels=labels)
    if len(curves):
        figure.axes[0].axvline(confidence[best], color=TEXT, linewidth=0.8, linestyle=":")
    return figure


def _class_curves(
    lines: tuple[np.ndarray, np.ndarray],
    classes: ClassMetrics,
    class_names: Sequence[str],
    notes: Sequence[str],
    *,
    labels: tuple[str, str, str],
) -> Figure:
    """Plot curves y [c, k] over x [k] and, of several, their mean; `notes` [c + 1] stand in the
    legend.
    """
    (x, curves), few = lines, len(classes.classes) <= MOST_LINES
    with fonts_for(class_names) as names:
        figure = Figure(figsize=(4.8, 3.9), layout="constrained")
        axes = figure.subplots()
        for row, c in enumerate(classes.classes.tolist()):
            axes.plot(
                x,
                curves[row],
                color=series_colour(c) if few else MUTED,
                linewidth=1.6 if few else 0.5,
                linestyle="--" if few and row >= len(SERIES) else "-",
                rasterized=not few,  # else the SVG of a page would be large
                # The blank: a label that begins with "_" would be left out of the legend.
                label=f" {names[c]}  {notes[row]}" if few else None,
            )
        if len(curves) > 1:
            mean = f" mean of classes  {notes[-1]}"
            axes.plot(x, curves.mean(0), color=TEXT, linewidth=2.4, label=mean)
        title, x_label, y_label = labels
        tidy(axes, title=title, x=x_label, y=y_label)
        axes.set(xlim=(0, 1), ylim=(0, 1.02))
        if len(curves) > len(SERIES):  # beside the curves, which it would hide
            figure.set_figwidth(7)
            entries = axes.get_legend_handles_labels()
            axes.legend_ = None
            for text in figure.legend(*entries, loc="outside right upper", fontsize=9).get_texts():
                text.set_parse_math(False)
    return figure


def confusion(matrix: np.ndarray, class_names: Sequence[str]) -> Figure:
    """Plot a confusion matrix [nc + 1, nc + 1], rows predicted, columns true.

    Columns are shares of the labelled objects of a class, those that are missed in orange below;
    the last column, of what is invented, has shares of the detections of each class.
    """
    chosen = np.arange(len(class_names))
    if len(chosen) > MOST_CONFUSED:
        wrong = (matrix.sum(0) + matrix.sum(1) - 2 * np.diag(matrix))[:-1]
        chosen = np.sort(np.argsort(-wrong, kind="stable")[:MOST_CONFUSED])
    own = [*chosen, len(class_names)]
    counts, side = matrix[np.ix_(own, own)], len(own)
    share = counts / np.maximum(matrix.sum(0)[own], 1)
    share[:, -1] = counts[:, -1] / np.maximum(matrix.sum(1)[own], 1)
    ground = SHADES(share)
    ground[-1], ground[:, -1] = ERROR_SHADES[ALERT](share[-1]), ERROR_SHADES[INVENTED](share[:, -1])
    cell = 0.75 if side <= 6 else 0.58
    with fonts_for(class_names) as names:
        shown = [names[c] for c in chosen]
        room = 1.4 + 0.075 * max(map(len, shown), default=0)
        figure = Figure(
            figsize=(max(cell * side + room, 4.4), cell * side + room), layout="constrained"
        )
        axes = figure.subplots()
        axes.imshow(ground)
        places, size = range(side), 9 if side <= 12 else 11
        columns, rows = [*shown, "false positives (FP)"], [*shown, "missed (FN)"]
        axes.set_xticks(places, columns, rotation=45, ha="right", fontsize=size, parse_math=False)
        axes.set_yticks(places, rows, fontsize=size, parse_math=False)
    axes.axhline(side - 1.5, color="white", linewidth=4)
    axes.axvline(side - 1.5, color="white", linewidth=4)
    for row, column in zip(*np.nonzero(counts), strict=True):
        text = f"{share[row, column]:.2f}\n{int(counts[row, column]):,}"
        dark = ground[row, column, :3] @ (0.299, 0.587, 0.114) < 0.55
        colour = "white" if dark else TEXT
        axes.text(column, row, text, ha="center", va="center", fontsize=size, color=colour)
    axes.set_xlabel("true class", fontsize=size)
    axes.set_ylabel("predicted class", fontsize=size)
    title = "Confusion at confidence 0.25, IoU 0.45"
    if side <= len(class_names):
        title += f"\nThe {side - 1} of {len(class_names)} classes with the most errors"
    axes.set_title(title, fontsize=size, color=TEXT, loc="left")
    axes.spines[:].set_visible(False)
    return figure
