"""What learning curves say: area, labels needed, and paired differences with their standard errors.

Pure functions on numbers. A curve is mAP50 over the number of labelled images.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from bench.label_choice import RANDOM
from bench.round_log import RoundResult, finished_rounds


@dataclass(frozen=True)
class Curve:
    """mAP50 in [0, 1] over rising numbers of labelled images; at least one point."""

    labels: tuple[int, ...]
    values: tuple[float, ...]
    objects: int = 0
    """Labelled objects in all images at its end."""

    def __post_init__(self) -> None:
        if not self.labels or len(self.labels) != len(self.values):
            raise ValueError(f"{len(self.labels)} numbers of labels, {len(self.values)} values")
        if any(after <= before for before, after in pairwise(self.labels)):
            raise ValueError(f"numbers of labels that do not rise: {self.labels}")


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds and its standard error; the error is NaN for fewer than two."""

    mean: float
    error: float
    count: int

    def __str__(self) -> str:
        return f"{self.mean:.4f} ± " + ("?" if math.isnan(self.error) else f"{self.error:.4f}")


Curves = Mapping[str, Mapping[int, Curve]]
"""By strategy and seed."""


def curves_of(
    results: Sequence[RoundResult], strategies: Sequence[str], seeds: Sequence[int], rounds: int
) -> Curves:
    """The curves that are whole: the starting set and all `rounds`; others are left out."""
    curves: dict[str, dict[int, Curve]] = {strategy: {} for strategy in strategies}
    for strategy in strategies:
        for seed in seeds:
            over = finished_rounds(results, seed=seed, strategy=strategy, rounds=rounds)
            if len(over) == rounds + 1:
                curves[strategy][seed] = Curve(
                    tuple(result.labels for result in over),
                    tuple(result.map50 for result in over),
                    over[-1].boxes,
                )
    return curves


def area(curve: Curve) -> float:
    """Area under the curve by the trapezoid rule, divided by its width: a mean mAP50, in [0, 1]."""
    width = curve.labels[-1] - curve.labels[0]
    if not width:
        raise ValueError("a curve of one point has no area")
    points = list(zip(curve.labels, curve.values, strict=True))
    return sum((b[0] - a[0]) * (a[1] + b[1]) / 2 for a, b in pairwise(points)) / width


def labels_needed(curve: Curve, target: float) -> float | None:
    """Labelled images at which the curve first reaches `target`, between points on a straight line.

    A curve that begins at the target or above needs its first number of labels (or fewer); None
    for a curve that never gets there.
    """
    if curve.values[0] >= target:
        return float(curve.labels[0])
    points = list(zip(curve.labels, curve.values, strict=True))
    for (labels, value), (later, higher) in pairwise(points):
        if higher >= target:
            return labels + (later - labels) * (target - value) / (higher - value)
    return None


def mean_curve(curves: Sequence[Curve]) -> Curve:
    """Point by point the mean of curves over the same numbers of labels."""
    labels = {curve.labels for curve in curves}
    if len(labels) != 1:
        raise ValueError(f"curves over {len(labels)} different rows of labels have no mean")
    values = zip(*(curve.values for curve in curves), strict=True)
    return Curve(labels.pop(), tuple(statistics.fmean(column) for column in values))


def estimate(values: Sequence[float]) -> Estimate:
    """Mean, and standard error: the sample standard deviation over the root of the count."""
    if not values:
        raise ValueError("no values to take a mean of")
    error = statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else math.nan
    return Estimate(statistics.fmean(values), error, len(values))


def paired_difference(ours: Mapping[int, float], others: Mapping[int, float]) -> Estimate | None:
    """Of ours minus the other's at the same seed, over the seeds that both have; None if none."""
    common = sorted(set(ours) & set(others))
    return estimate([ours[seed] - others[seed] for seed in common]) if common else None


def default_target(curves: Curves) -> float | None:
    """The mAP50 that random choice ends with on average: what the others may reach with less."""
    own = list(curves.get(RANDOM, {}).values())
    return mean_curve(own).values[-1] if own else None


def table(curves: Curves, targets: Sequence[float]) -> str:
    """The figures of every strategy as Markdown."""
    heads = ["strategy", "seeds", "area under mAP50", "minus random, paired", "last mAP50"]
    heads += [f"labels for mAP50 {target:.3f}" for target in targets]
    heads += ["objects in the labelled images"]
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    areas = {
        name: {seed: area(curve) for seed, curve in own.items()} for name, own in curves.items()
    }
    for name, own in curves.items():
        if not own:
            lines.append(f"| {name} | 0 |" + " |" * (len(heads) - 2))
            continue
        difference = paired_difference(areas[name], areas.get(RANDOM, {}))
        cells = [
            name,
            str(len(own)),
            str(estimate(list(areas[name].values()))),
            "" if name == RANDOM or difference is None else _signed(difference),
            str(estimate([curve.values[-1] for curve in own.values()])),
            *(_labels_cell(list(own.values()), target) for target in targets),
            f"{statistics.fmean(curve.objects for curve in own.values()):.0f}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _signed(difference: Estimate) -> str:
    sign = "+" if difference.mean >= 0 else ""
    return f"{sign}{difference} ({difference.count} pairs)"


def _labels_cell(curves: Sequence[Curve], target: float) -> str:
    """On the mean curve, and how many seeds get there: a mean over those alone would flatter."""
    needed = labels_needed(mean_curve(curves), target)
    reached = sum(labels_needed(curve, target) is not None for curve in curves)
    found = "not reached" if needed is None else f"{needed:.0f}"
    return f"{found} ({reached} of {len(curves)} seeds)"
