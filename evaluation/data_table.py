"""A data set as one table for the log: its splits side by side, with the boxes of each class."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

from data.dataset_index import DatasetIndex
from data.report import DataReport

MOST_CLASSES = 20
"""Classes with a row of their own, the most frequent first; the others share one."""


def data_table(
    titles: Sequence[str], splits: Sequence[DatasetIndex], reports: Sequence[DataReport]
) -> str:
    """Images, backgrounds and boxes of each split, and the boxes of each class, in columns."""
    counts = [split.counts().tolist() for split in splits]
    names = splits[0].class_names
    total = [sum(column[i] for column in counts) for i in range(len(names))]
    order = sorted(range(len(names)), key=lambda i: (-total[i], i))
    rows: list[tuple[str, Sequence[object]]] = [
        ("data set", titles),
        ("images listed", [report.listed for report in reports]),
        ("images used", [len(split) for split in splits]),
        ("  without objects", [report.backgrounds for report in reports]),
        ("boxes", [len(split.boxes) for split in splits]),
    ]
    rows += [(f"  {names[i]}", [column[i] for column in counts]) for i in order[:MOST_CLASSES]]
    rest = order[MOST_CLASSES:]
    if rest:
        sums = [sum(column[i] for i in rest) for column in counts]
        rows.append((f"  {len(rest)} more classes", sums))
    left = max(_width(name) for name, _ in rows)
    right = max(len(str(value)) for _, values in rows for value in values)
    return "\n".join(
        name + " " * (left - _width(name)) + "".join(f"  {value!s:>{right}}" for value in values)
        for name, values in rows
    )


def _width(text: str) -> int:
    """Columns that a text takes: wide characters two, marks that join others none."""
    return sum(
        0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1
        for c in text
    )
