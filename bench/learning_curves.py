"""Learning curves of an active-learning run: areas, labels needed, paired differences, a plot.

A learning curve is mAP50 over the number of labelled images, of one strategy at one seed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from bench.active_rounds import RANDOM, RoundResult, finished_rounds
from bench.training import markdown
from reporting.drawing import series_colour
from reporting.plots import save_figure, tidy

FIGURES = ("labels", "boxes", "rare_boxes", "map50", "map50_95")
"""Fields of a round that curves have."""


def complete_curves(
    results: Sequence[RoundResult], strategies: Sequence[str], seeds: Sequence[int], rounds: int
) -> pd.DataFrame:
    """Collect the complete curves, a row per round: strategy, seed, and the columns `FIGURES`."""
    rows = [
        (strategy, seed, *(getattr(one, name) for name in FIGURES))
        for strategy in strategies
        for seed in seeds
        if len(done := finished_rounds(results, seed=seed, strategy=strategy, rounds=rounds))
        == rounds + 1
        for one in done
    ]
    return pd.DataFrame(rows, columns=["strategy", "seed", *FIGURES])


def by_seed(curves: pd.DataFrame, strategy: str, figure: str = "map50") -> pd.DataFrame:
    """Return a figure [labels, seeds] of one strategy, empty if it has no complete curve."""
    own = curves[curves["strategy"] == strategy]
    return own.pivot(index="labels", columns="seed", values=figure)


def area(map50: pd.DataFrame) -> pd.Series:
    """Return the mean of each curve [seeds]: trapezoid rule over labels, by the width."""
    values, steps = map50.to_numpy(), np.diff(map50.index)[:, None]
    areas = (steps * (values[1:] + values[:-1]) / 2).sum(0) / steps.sum()
    return pd.Series(areas, index=map50.columns)


def labels_needed(curve: pd.Series, target: float) -> float | None:
    """Return the (interpolated) labels at which a curve first reaches `target`, or None."""
    reached = np.flatnonzero(curve.to_numpy() >= target)
    if not len(reached):
        return None
    after = int(reached[0])
    part = curve.iloc[max(after - 1, 0) : after + 1]
    return float(np.interp(target, part.to_numpy(), part.index.to_numpy(float)))


def estimate(values: pd.Series, sign: str = "") -> str:
    """Format mean and standard error (sample standard deviation / √n; `?` for one value)."""
    numbers = values.to_numpy(float)
    error = numbers.std(ddof=1) / math.sqrt(len(numbers)) if len(numbers) > 1 else math.nan
    return f"{numbers.mean():{sign}.4f} ± " + ("?" if math.isnan(error) else f"{error:.4f}")


def minus_random(own: pd.Series, random: pd.Series) -> str:
    """Format the differences of figures [seeds] to random choice at the same seed."""
    paired = (own - random).dropna()
    return f"{estimate(paired, '+')} ({len(paired)} pairs)" if len(paired) else ""


def default_target(curves: pd.DataFrame) -> list[float]:
    """Return the mAP50 that random choice ends with on average, as a list of at most one."""
    map50 = by_seed(curves, RANDOM)
    return [] if map50.empty else [float(map50.iloc[-1].mean())]


def table(curves: pd.DataFrame, strategies: Sequence[str], targets: Sequence[float]) -> str:
    """Format the figures of every strategy as Markdown.

    Labels needed are those of the mean curve: a mean over the seeds that reach the target alone
    would be too good.
    """
    head = ["strategy", "seeds", "area under mAP50", "minus random, paired", "last mAP50"]
    head += ["last minus random", "area under mAP50-95 minus random"]
    head += [f"labels for mAP50 {target:.3f}" for target in targets]
    head += ["objects in the labelled images", "of rare classes"]
    rows: list[list[object]] = []
    for name in strategies:
        (map50, random), finer = (
            [by_seed(curves, one, figure) for one in (name, RANDOM)]
            for figure in ("map50", "map50_95")
        )
        if map50.empty:
            rows.append([name, 0, *[""] * (len(head) - 2)])
            continue
        areas, last, differences = area(map50), map50.iloc[-1], [""] * 3
        if name != RANDOM and not random.empty:
            pairs = ((areas, area(random)), (last, random.iloc[-1]), tuple(map(area, finer)))
            differences = [minus_random(own, other) for own, other in pairs]
        row = [name, len(areas), estimate(areas), differences[0], estimate(last), *differences[1:]]
        for target in targets:
            needed = labels_needed(map50.mean(axis=1), target)
            reached = int((map50 >= target).any().sum())
            found = "not reached" if needed is None else f"{needed:.0f}"
            row.append(f"{found} ({reached} of {len(areas)} seeds)")
        own = curves[(curves["strategy"] == name) & (curves["labels"] == map50.index[-1])]
        row += [f"{own[figure].mean():.1f}" for figure in ("boxes", "rare_boxes")]
        rows.append(row)
    return markdown(" | ".join(head), rows)


def plot_curves(curves: pd.DataFrame, strategies: Sequence[str], path: Path) -> None:
    """Plot mAP50 over labelled images: mean, a band of one standard deviation, single seeds."""
    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.subplots()
    for number, name in enumerate(strategies):
        map50 = by_seed(curves, name)
        if map50.empty:
            continue
        colour, labels, mean = series_colour(number), map50.index, map50.mean(axis=1)
        axes.plot(labels, map50, color=colour, linewidth=0.6, alpha=0.35)
        seeds = map50.shape[1]
        spread = map50.std(axis=1).fillna(0)
        axes.fill_between(labels, mean - spread, mean + spread, color=colour, alpha=0.12, lw=0)
        text = f" {name}, {seeds} seed{'s' if seeds > 1 else ''}"
        axes.plot(labels, mean, "o-", color=colour, linewidth=2.2, markersize=4, label=text)
    title = "mAP50 on the validation split: mean, standard deviation, single seeds"
    tidy(axes, title=title, x="labelled images", y="mAP50")
    if not curves.empty:
        for entry in axes.legend(fontsize=8, frameon=False).get_texts():
            entry.set_parse_math(False)
    save_figure(figure, path)
