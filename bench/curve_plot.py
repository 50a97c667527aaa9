"""Learning curves of several strategies as one picture: mean, spread, and every seed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from bench.learning_curves import Curves, mean_curve
from reporting.colours import series_colour
from reporting.plots import save_figure, tidy


def draw_learning_curves(curves: Curves, path: Path) -> None:
    """mAP50 over labelled images as a PNG file, replaced in one step.

    Per strategy a bold line for the mean over seeds, a band of one sample standard deviation
    either way (from two seeds on), and a thin line per seed. A strategy without a whole curve is
    left out.
    """
    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.subplots()
    for number, (name, own) in enumerate(curves.items()):
        if not own:
            continue
        colour, mean = series_colour(number), mean_curve(list(own.values()))
        values = np.array([curve.values for curve in own.values()])
        for row in values:
            axes.plot(mean.labels, row, color=colour, linewidth=0.6, alpha=0.35)
        if len(own) > 1:
            spread = values.std(axis=0, ddof=1)
            centre = np.array(mean.values)
            axes.fill_between(
                mean.labels, centre - spread, centre + spread, color=colour, alpha=0.12, linewidth=0
            )
        seeds = "1 seed" if len(own) == 1 else f"{len(own)} seeds"
        axes.plot(
            mean.labels,
            mean.values,
            color=colour,
            linewidth=2.2,
            marker="o",
            markersize=4,
            label=f" {name}, {seeds}",
        )
    title = "mAP50 on the validation split: mean, standard deviation, single seeds"
    tidy(axes, title=title, x="labelled images", y="mAP50")
    if axes.get_legend_handles_labels()[0]:
        for text in axes.legend(fontsize=8, frameon=False).get_texts():
            text.set_parse_math(False)
    save_figure(figure, path)
