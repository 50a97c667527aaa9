"""Figures by matplotlib and their style: training curves, labels, anchors, scores of candidates."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
from matplotlib import font_manager, ft2font
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike, NDArray

from data.dataset_index import DatasetIndex
from models.anchors import GOOD_RECALL, anchor_fit, matches_per_box
from reporting.drawing import (
    ACCENT,
    ALERT,
    MUTED,
    SERIES,
    TEXT,
    default_font,
    font_for,
    is_right_to_left,
    shorten,
)
from reporting.results_csv import read_results
from utils.atomic import replace_file
from utils.logs import counted

DPI = 160
MOST_POINTS = 4000
"""Points of a scatter plot; of more boxes every k-th is shown."""
MOST_NAMES = 60
"""Classes named on an axis."""
SMALL = (3.7, 2.7)
"""Inches of a figure that stands beside others."""
SQUARE = (3.7, 3.5)
LEARNING = {
    "Box loss": {"training": "train/box_loss", "validation": "val/box_loss"},
    "Objectness loss": {"training": "train/obj_loss", "validation": "val/obj_loss"},
    "Class loss": {"training": "train/cls_loss", "validation": "val/cls_loss"},
    "Precision and recall": {"precision": "metrics/precision", "recall": "metrics/recall"},
    "Average precision": {"mAP50": "metrics/mAP_0.5", "mAP50-95": "metrics/mAP_0.5:0.95"},
    "Learning rate": {"biases": "x/lr0", "weights": "x/lr1"},
}
"""Parts of the learning curves: lines and their columns of `results.csv`."""
SHADES = LinearSegmentedColormap.from_list("shades", ["#ffffff", "#9cc3dc", ACCENT, "#06283f"])


def save_figure(figure: Figure, path: Path) -> None:
    """Replace the PNG file `path` by the figure in one step."""
    with replace_file(path) as temporary:
        figure.savefig(temporary, format="png", dpi=DPI)


def tidy(axes: Axes, *, title: str, x: str, y: str) -> None:
    """Apply the style that every figure shares; names may hold any character."""
    axes.set_title(title, fontsize=9, color=TEXT, loc="left", parse_math=False)
    axes.set_xlabel(x, fontsize=9)
    axes.set_ylabel(y, fontsize=9)
    axes.grid(alpha=0.25)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8)
    if axes.get_legend_handles_labels()[0]:
        for text in axes.legend(fontsize=8, frameon=False).get_texts():
            text.set_parse_math(False)


def figure_names(class_names: Sequence[str]) -> list[str]:
    """Return the names as figures can show them: `class N` where no font has the characters."""
    return [
        shorten(name) if _family(shorten(name)) else f"class {number}"
        for number, name in enumerate(class_names)
    ]


def _family(text: str) -> str | None:
    """Return the family of a font that matplotlib can write `text` with, or None."""
    font = font_for(text) if text else None
    # matplotlib shapes and orders letters since 3.11, with Raqm.
    if font and (hasattr(ft2font, "__libraqm_version__") or not is_right_to_left(text)):
        return _register(font)
    return None


@lru_cache
def _register(font: Path) -> str:
    if font != default_font():
        font_manager.fontManager.addfont(font)
    return str(font_manager.FontProperties(fname=font).get_name())


@contextmanager
def fonts_for(class_names: Sequence[str]) -> Iterator[list[str]]:
    """Give `figure_names`; texts that are created meanwhile fall back to the fonts they need."""
    families = filter(None, map(_family, map(shorten, class_names)))
    with matplotlib.rc_context({"font.family": list(dict.fromkeys(["DejaVu Sans", *families]))}):
        yield figure_names(class_names)


def learning_curves(results_csv: Path) -> Figure:
    """Plot losses, metrics and learning rates over the epochs of `results.csv`."""
    table = read_results(results_csv)
    figure = Figure(figsize=(12, 6.4), layout="constrained")
    for axes, title in zip(figure.subplots(2, 3).flat, LEARNING, strict=True):
        _plot_learning(axes, table, title)
    return figure


def learning_panels(results_csv: Path) -> list[Figure]:
    """Return the parts of `learning_curves` as figures of their own, for a page."""
    table, figures = read_results(results_csv), []
    for title in LEARNING:
        figures.append(Figure(figsize=SMALL, layout="constrained"))
        _plot_learning(figures[-1].subplots(), table, title)
    return figures


def _plot_learning(axes: Axes, table: pd.DataFrame, title: str) -> None:
    lines, epochs = LEARNING[title], table["epoch"] + 1
    for colour, (label, column) in zip(SERIES, lines.items(), strict=False):
        marker = "o" if len(table) == 1 else None
        axes.plot(epochs, table[column], color=colour, label=label, marker=marker)
    if title == "Class loss" and not table[list(lines.values())].to_numpy().any():
        title = "Class loss: none with one class"
    if "metrics" in column:
        axes.set_ylim(0, 1)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    if len(table) == 1:
        axes.set_xticks(epochs)
    tidy(axes, title=title, x="epoch", y="")


def label_statistics(index: DatasetIndex) -> Figure:
    """Plot boxes per class, their centres, and their widths and heights."""
    with fonts_for(index.class_names) as names:
        figure = Figure(figsize=(13.3, 4.6), layout="constrained")
        per_class, centres, sizes = figure.subplots(1, 3, width_ratios=(1.35, 1, 1))
        _plot_counts(per_class, index, names)
    _plot_places(centres, sizes, index)
    return figure


def label_panels(index: DatasetIndex) -> list[Figure]:
    """Return the centres and the sizes of `label_statistics` as figures of their own."""
    figures = [Figure(figsize=SQUARE, layout="constrained") for _ in range(2)]
    _plot_places(figures[0].subplots(), figures[1].subplots(), index)
    return figures


def _plot_places(centres: Axes, sizes: Axes, index: DatasetIndex) -> None:
    limits = np.repeat(index.sizes[:, ::-1], np.diff(index.offsets), axis=0)  # (w, h) [m, 2]
    shares = index.boxes / np.maximum(np.tile(limits, 2), 1)
    middle, extent = (shares[:, :2] + shares[:, 2:]) / 2, shares[:, 2:] - shares[:, :2]
    heat, _, _ = np.histogram2d(middle[:, 1], middle[:, 0], bins=40, range=((0, 1), (0, 1)))
    centres.imshow(heat, cmap=SHADES, extent=(0, 1, 1, 0), vmin=0, vmax=max(heat.max(), 1))
    title = f"Centres, at most {int(heat.max())} in a field"
    tidy(centres, title=title, x="x / image width", y="y / image height")
    centres.grid(False)
    xs, ys = _sample(extent).T
    sizes.scatter(xs, ys, s=7, alpha=0.35, color=ACCENT, linewidths=0, rasterized=True)
    sizes.set(xlim=(0, 1), ylim=(0, 1), aspect="equal")
    tidy(sizes, title="Sizes", x="box width / image width", y="box height / image height")


def _plot_counts(axes: Axes, index: DatasetIndex, names: Sequence[str]) -> None:
    counts = index.counts()
    bars = axes.bar(range(len(counts)), counts, color=ACCENT, width=0.8)
    few, named = len(counts) <= 12, len(counts) <= MOST_NAMES
    if few:
        axes.bar_label(bars, [f"{count:,}" for count in counts], fontsize=8, color=TEXT)
    boxes = counted(len(index.boxes), "%s box", "%s boxes")
    title = f"{boxes}, {counted(len(index), '%s image', '%s images')}"
    tidy(axes, title=title, x="" if named else "class number", y="boxes")
    if named:
        turn, side, size = (30, "right", 9) if few else (90, "center", 6)
        axes.set_xticks(
            range(len(counts)), names, rotation=turn, ha=side, fontsize=size, parse_math=False
        )
    axes.grid(False, axis="x")
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    axes.margins(y=0.12)


def anchor_coverage(
    anchors: NDArray[np.floating], sizes: NDArray[np.floating], *, threshold: float
) -> Figure:
    """Plot box sizes [m, 2] and anchors [k, 2], both (w, h) in pixels of the network's input.

    The area around an anchor holds the boxes that it can be assigned: sides that differ by less
    than the factor `threshold`. Boxes outside all of them are never a target.
    """
    fit = anchor_fit(anchors, sizes, threshold)
    figure = Figure(figsize=(4.6, 4.3), layout="constrained")
    axes = figure.subplots()
    places, boxes = (np.asarray(points, float).reshape(-1, 2) for points in (anchors, sizes))
    for width, height in places:
        corner, extent = (width / threshold, height / threshold), threshold - 1 / threshold
        shape = (width * extent, height * extent)
        axes.add_patch(Rectangle(corner, *shape, facecolor=ACCENT, alpha=0.07, edgecolor="none"))
    covered = matches_per_box(anchors, boxes, threshold) > 0
    for chosen, colour, label in (
        (boxes[covered], MUTED, f"boxes within reach of an anchor ({covered.sum():,})"),
        (boxes[~covered], ALERT, f"boxes out of reach ({(~covered).sum():,})"),
    ):
        if len(chosen):
            xs, ys = _sample(chosen).T
            axes.scatter(xs, ys, s=8, alpha=0.5, color=colour, lw=0, label=label, rasterized=True)
    label = f"anchors, shaded: within a factor of {threshold:g}"
    xs, ys = places.T
    axes.scatter(xs, ys, marker="+", s=140, color=ACCENT, linewidths=2.4, label=label)
    axes.set(xscale="log", yscale="log", aspect="equal")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter("{x:g}")
    advice = "" if fit.best_possible_recall > GOOD_RECALL else "\nanother img_size may help"
    best, number = fit.best_possible_recall, fit.anchors_above_threshold
    title = f"Best possible recall {best:.3f}, {number:.1f} anchors a box{advice}"
    names = ("width in pixels of the network's input", "height in pixels of the network's input")
    tidy(axes, title=title, x=names[0], y=names[1])
    axes.legend(fontsize=8, loc="upper left", framealpha=0.9, edgecolor="none")
    return figure


def _sample(points: NDArray[np.floating]) -> NDArray[np.floating]:
    return points[:: -(-len(points) // MOST_POINTS) or 1]


def importances(shares: Mapping[str, float]) -> Figure:
    """Plot the importance of each hyper-parameter as a share of 1, the largest on top."""
    ordered = sorted(shares.items(), key=lambda pair: pair[1])
    figure = Figure(figsize=(7, 1.2 + 0.25 * len(ordered)), layout="constrained")
    axes = figure.subplots()
    axes.barh([name for name, _ in ordered], [share for _, share in ordered], color=SERIES[0])
    tidy(axes, title="Importance for the fitness", x="share", y="")
    return figure


def histogram(counts: ArrayLike, edges: ArrayLike, *, title: str, x: str, y: str) -> Figure:
    """Plot bars of `counts` [k] between `edges` [k + 1]."""
    figure = Figure(figsize=SMALL, layout="constrained")
    axes = figure.subplots()
    axes.stairs(counts, edges, fill=True, color=ACCENT)
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    tidy(axes, title=title, x=x, y=y)
    return figure


def line(
    values: ArrayLike, *, title: str, x: str, y: str, counts: bool = False, mark: int = 0
) -> Figure:
    """Plot `values` [k] over 1 to k; `counts` are whole numbers, shown from 0 on.

    A dotted line stands at `mark`, if any.
    """
    figure = Figure(figsize=SMALL, layout="constrained")
    axes = figure.subplots()
    heights = np.asarray(values)
    marker = "o" if len(heights) == 1 else None
    axes.plot(np.arange(1, len(heights) + 1), heights, color=ACCENT, marker=marker)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    if mark:
        axes.axvline(mark, color=MUTED, linewidth=1, linestyle=":")
        place = (mark, 0.97 if mark < len(heights) / 2 else 0.06)
        side = "left" if mark < len(heights) / 2 else "right"
        shown = f" {counted(mark, '%s image', '%s images')} "
        where = axes.get_xaxis_transform()
        axes.text(*place, shown, transform=where, ha=side, va="center", fontsize=8, color=MUTED)
    if counts:
        axes.set_ylim(0, max(heights.max(), 1) * 1.05)
        axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    tidy(axes, title=title, x=x, y=y)
    return figure
