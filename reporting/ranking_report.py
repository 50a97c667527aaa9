"""Where to stop a ranking: how the score falls, and what classes its first images bring."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from reporting.colours import ACCENT
from reporting.page import Page
from reporting.svg import Markup, Series, line_chart

MOST_LOOKED_AT = 20_000
"""First images whose classes are counted: each is read from disk."""
MOST_ROWS = 25
STEPS = (10, 30, 100, 300, 1000, 3000, 10_000)

Shown = Callable[[int], np.ndarray]
"""The classes, int64 [n], of the detections of the image at a position of the candidates."""


def ranking(scores: Sequence[float | None]) -> np.ndarray:
    """Positions int64 in the order of `result.tsv`: by falling score as written there, equal ones
    in the order of the candidates, those without a score last.
    """
    written = np.array([-np.inf if s is None else round(s, 6) for s in scores], np.float64)
    return np.argsort(-written, kind="stable").astype(np.int64)


def coverage(order: Sequence[int], shown: Shown, classes: int) -> Iterator[np.ndarray]:
    """After each image of a ranking the images so far that show each class: int64 [classes]."""
    images = np.zeros(classes, np.int64)
    for position in order:
        own = shown(position)
        images[np.unique(own[(own >= 0) & (own < classes)])] += 1
        yield images.copy()


def steps_of(count: int) -> list[int]:
    """The k at which figures are given, rising, the last one `count`."""
    return [k for k in STEPS if k < count] + [count]


def add_choice(
    page: Page, scores: Sequence[float | None], shown: Shown, names: Sequence[str]
) -> None:
    """A section that helps to choose k, the number of images to label.

    `scores` are those of all candidates, in their order; None for unreadable ones.
    """
    order = ranking(scores)
    readable = int(sum(score is not None for score in scores))
    if not readable:
        return
    order = order[:readable]
    page.section("How many to label")
    falling = np.array([scores[n] for n in order.tolist()], np.float64)
    charts = [fall(falling)]
    first = order[:MOST_LOOKED_AT].tolist()
    steps, table, seen = steps_of(len(first)), [], []
    for k, images in enumerate(coverage(first, shown, len(names)), start=1):
        seen.append(int((images > 0).sum()))
        if k in steps:
            table.append(images)
    charts.append(
        line_chart(
            [Series(np.arange(1, len(seen) + 1), seen, ACCENT)],
            title=f"Classes shown by the first k images (of {len(names)})",
            x_label="k",
            y_label="classes",
            whole_x=True,
        )
    )
    page.charts(charts, large=True)
    page.text(
        "Where the score has fallen and no further class comes, more images bring less. Below: "
        "images among the first k in which each class was detected."
    )
    page.table(
        ["class", *(f"k = {k}" for k in steps)],
        [(name, *(int(images[n]) for images in table)) for n, name in enumerate(names)],
        folded=f"All {len(names)} classes" if len(names) > MOST_ROWS else "",
    )


def fall(falling: np.ndarray) -> Markup:
    """The score over the rank, of scores [n] in falling order."""
    low, high = float(falling[-1]), float(falling[0])
    room = (high - low) * 0.05 or 0.5
    return line_chart(
        [Series(np.arange(1, len(falling) + 1), falling, ACCENT)],
        title="Score by rank",
        x_label="rank",
        y_label="score",
        y_range=(low - room, high + room),
        whole_x=True,
    )
