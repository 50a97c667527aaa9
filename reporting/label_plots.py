"""Figures of a data set's labels: how many, where, how large, and which anchors answer for them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from data.dataset_index import DatasetIndex
from models.anchors import GOOD_RECALL, anchor_fit, matches_per_box
from reporting.colours import ACCENT, ALERT, INK, MUTED
from reporting.lettering import labels_of
from reporting.plots import save_figure, tidy

MOST_POINTS = 4000
"""Points of a scatter plot; of more boxes every k-th is shown."""
MOST_NAMES = 60
SHADES = LinearSegmentedColormap.from_list("shades", ["#ffffff", "#9cc3dc", ACCENT, "#06283f"])


def draw_labels(index: DatasetIndex, path: Path) -> None:
    """Boxes per class, where their centres lie, and their widths and heights."""
    figure = Figure(figsize=(13.3, 4.6), layout="constrained")
    per_class, centres, sizes = figure.subplots(1, 3, width_ratios=(1.35, 1, 1))
    _draw_counts(per_class, index)
    limits = np.repeat(index.sizes[:, ::-1], np.diff(index.offsets), axis=0)  # (w, h) [m, 2]
    shares = index.boxes / np.maximum(np.tile(limits, 2), 1)
    middle, extent = (shares[:, :2] + shares[:, 2:]) / 2, shares[:, 2:] - shares[:, :2]
    heat, _, _ = np.histogram2d(middle[:, 1], middle[:, 0], bins=40, range=((0, 1), (0, 1)))
    centres.imshow(heat, cmap=SHADES, extent=(0, 1, 1, 0), vmin=0, vmax=max(heat.max(), 1))
    tidy(
        centres,
        title=f"Centres, at most {int(heat.max())} in a field",
        x="x / image width",
        y="y / image height",
    )
    centres.grid(False)
    some = _some(extent)
    sizes.scatter(some[:, 0], some[:, 1], s=7, alpha=0.35, color=ACCENT, linewidths=0)
    sizes.set(xlim=(0, 1), ylim=(0, 1), aspect="equal")
    tidy(sizes, title="Sizes", x="box width / image width", y="box height / image height")
    save_figure(figure, path)


def _draw_counts(axes: Axes, index: DatasetIndex) -> None:
    counts = index.counts()
    bars = axes.bar(range(len(counts)), counts, color=ACCENT, width=0.8)
    few = len(counts) <= 12
    if few:
        axes.bar_label(bars, [f"{count:,}" for count in counts], fontsize=8, color=INK)
    if len(counts) <= MOST_NAMES:
        axes.set_xticks(
            range(len(counts)),
            labels_of(index.class_names),
            rotation=30 if few else 90,
            ha="right" if few else "center",
            fontsize=9 if few else 6,
            parse_math=False,
        )
    title = f"{len(index.boxes):,} boxes in {len(index):,} images"
    tidy(axes, title=title, x="" if len(counts) <= MOST_NAMES else "class number", y="boxes")
    axes.grid(False, axis="x")
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    axes.margins(y=0.12)


def draw_anchors(
    anchors: NDArray[np.floating],
    sizes: NDArray[np.floating],
    *,
    threshold: float,
    path: Path,
) -> None:
    """Box sizes [m, 2] against anchors [k, 2], both (w, h) in pixels of the network's input.

    Round every anchor stands the area that it may answer for: sides that differ by less than the
    factor `threshold`. Boxes outside all of them cannot be learnt.
    """
    fit = anchor_fit(anchors, sizes, threshold)
    figure = Figure(figsize=(7, 6), layout="constrained")
    axes = figure.subplots()
    places = np.asarray(anchors, float).reshape(-1, 2)
    _shade_reach(axes, places, threshold)
    boxes = np.asarray(sizes, float).reshape(-1, 2)
    answered = matches_per_box(anchors, boxes, threshold) > 0
    for chosen, colour, label in (
        (boxes[answered], MUTED, f"boxes that an anchor may answer for ({answered.sum():,})"),
        (boxes[~answered], ALERT, f"boxes out of reach ({(~answered).sum():,})"),
    ):
        if len(chosen):
            some = _some(chosen)
            axes.scatter(
                some[:, 0], some[:, 1], s=8, alpha=0.5, color=colour, linewidths=0, label=label
            )
    axes.scatter(
        places[:, 0],
        places[:, 1],
        marker="+",
        s=140,
        color=ACCENT,
        linewidths=2.4,
        label=f"anchors, shaded: within a factor of {threshold:g}",
    )
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_aspect("equal")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter("{x:g}")
    verdict = "" if fit.best_possible_recall > GOOD_RECALL else " - another img_size may help"
    tidy(
        axes,
        title=f"Best possible recall {fit.best_possible_recall:.3f}, "
        f"{fit.anchors_above_threshold:.1f} anchors a box{verdict}",
        x="width in pixels of the network's input",
        y="height in pixels of the network's input",
    )
    axes.legend(fontsize=8, loc="upper left", framealpha=0.9, edgecolor="none")
    save_figure(figure, path)


def _shade_reach(axes: Axes, places: NDArray[np.floating], threshold: float) -> None:
    """The sizes that each anchor [k, 2] may answer for, overlapping ones darker."""
    for width, height in places:
        axes.add_patch(
            Rectangle(
                (width / threshold, height / threshold),
                width * (threshold - 1 / threshold),
                height * (threshold - 1 / threshold),
                facecolor=ACCENT,
                alpha=0.07,
                edgecolor="none",
            )
        )


def _some(points: NDArray[np.floating]) -> NDArray[np.floating]:
    return points[:: -(-len(points) // MOST_POINTS) or 1]
