"""Tables of a data set and of an evaluation, for the log and as CSV files."""

from __future__ import annotations

import unicodedata
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from data.dataset_index import DatasetIndex
from data.report import DataReport
from evaluation.coco import CocoMetrics
from evaluation.evaluator import SIZES, Evaluation
from evaluation.metrics import ClassMetrics
from utils.atomic import write_text
from utils.language.catalogue import ENGLISH, catalogue

COUNTS = ("labels", "tp", "fp", "fn")
SHARES = ("precision", "recall", "ap50", "ap50_95")
COLUMNS = ("class", "size", *COUNTS, *SHARES)
"""Counts, precision and recall are at IoU 0.5 and the confidence of the best mean F1."""
MOST_CLASSES = 20
"""Classes with a row of their own in the table of a data set, the most frequent first."""


def class_results(evaluation: Evaluation, class_names: Sequence[str]) -> pd.DataFrame:
    """Return COLUMNS for all classes and for each class that has labels, of every object size.

    The row `all` has sums of the counts and means of the rest; a size without labels has no rows.
    """
    sizes = [("all", evaluation.classes), *zip(SIZES, evaluation.by_size, strict=False)]
    tables = [_results_of(metrics, class_names, size) for size, metrics in sizes]
    return pd.concat(tables, ignore_index=True)


def _results_of(metrics: ClassMetrics, class_names: Sequence[str], size: str) -> pd.DataFrame:
    counts = {"labels": metrics.labels, "tp": metrics.tp, "fp": metrics.fp, "fn": metrics.fn}
    shares = {
        "precision": metrics.precision,
        "recall": metrics.recall,
        "ap50": metrics.ap[:, 0],
        "ap50_95": metrics.ap.mean(1),
    }
    names = [class_names[c] for c in metrics.classes]
    table = pd.DataFrame({"class": names, "size": size, **counts, **shares})
    if not names:
        return table
    # numpy's means, which differ from those of pandas in the last digit.
    total = {name: values.sum() for name, values in counts.items()}
    total |= {name: values.mean() for name, values in {**shares, "ap50_95": metrics.ap}.items()}
    return pd.concat([pd.DataFrame([{"class": "all", "size": size, **total}]), table])


def class_table(
    evaluation: Evaluation, class_names: Sequence[str], *, language: str = ENGLISH
) -> str:
    """Format counts, precision, recall and average precision per class for the log."""
    told = catalogue(language, pages=True).word
    results = class_results(replace(evaluation, by_size=()), class_names)
    heading = [told("class"), told("labels"), "TP", "FP", "FN", "P", "R", "mAP50", "mAP50-95"]
    rows = [_cells(row, COUNTS, SHARES) for row in results.to_dict("records")]
    if results.empty:
        rows.append(["all", *"0000", *["0.000"] * 4])
    rows = [heading, [told("all"), *rows[0][1:]], *rows[1:]]
    return _aligned(rows, 10)


def size_table(
    evaluation: Evaluation, class_names: Sequence[str], *, language: str = ENGLISH
) -> str:
    """Format labels, recall and average precision per class and object size for the log.

    Empty for an evaluation that has no figures by size.
    """
    if not evaluation.by_size:
        return ""
    told = catalogue(language, pages=True).word
    results = class_results(evaluation, class_names).to_dict("records")
    found = {(row["class"], row["size"]): row for row in results}
    rows = [[told("class"), *(told("labels"), "R", "AP50", "AP50-95") * len(SIZES)]]
    for name in ("all", *(class_names[c] for c in evaluation.classes.classes)):
        rows.append([name])
        for size in SIZES:
            row = found.get((name, size))
            rows[-1] += _cells(row, COUNTS[:1], SHARES[1:])[1:] if row else ["0", "-", "-", "-"]
    rows[1][0] = told("all")
    table = _aligned(rows, 9)
    width = _columns(table.partition("\n")[0]) - 36 * len(SIZES)
    return " " * width + "".join(_right(told(size), 36) for size in SIZES) + "\n" + table


def _cells(row: Mapping[Hashable, Any], counts: Sequence[str], shares: Sequence[str]) -> list[str]:
    return [row["class"], *(str(row[n]) for n in counts), *(f"{row[n]:.3f}" for n in shares)]


def data_table(
    titles: Sequence[str],
    splits: Sequence[DatasetIndex],
    reports: Sequence[DataReport],
    *,
    language: str = ENGLISH,
) -> str:
    """Format images, backgrounds and boxes of each split, and the boxes of each class."""
    told = catalogue(language, pages=True).word
    names = splits[0].class_names
    counts = pd.DataFrame({n: split.counts() for n, split in enumerate(splits)})
    counts = counts.loc[counts.sum(axis=1).sort_values(ascending=False, kind="stable").index]
    rows: list[tuple[str, Sequence[object]]] = [
        (told("data set"), list(map(told, titles))),
        (told("images listed"), [report.listed for report in reports]),
        (told("images used"), [len(split) for split in splits]),
        (f"  {told('without objects')}", [report.backgrounds for report in reports]),
        (told("boxes"), [len(split.boxes) for split in splits]),
    ]
    rows += [(f"  {names[i]}", list(row)) for i, *row in counts[:MOST_CLASSES].itertuples()]
    if len(names) > MOST_CLASSES:
        rest = counts[MOST_CLASSES:]
        rows.append((f"  {len(rest)} {told('more classes')}", rest.sum().tolist()))
    cells = [[name, *map(str, values)] for name, values in rows]
    return _aligned(cells, 2 + max(_columns(cell) for row in cells for cell in row[1:]))


def coco_table(metrics: CocoMetrics) -> str:
    """Format COCO's twelve metrics in two lines for the log; '-' where no label has the size."""
    named = [f"{name} {'-' if v is None else f'{v:.3f}'}" for name, v in metrics.items()]
    half = len(named) // 2
    return "\n".join(f"COCO  {'  '.join(part)}" for part in (named[:half], named[half:]))


def write_tables(
    folder: Path, evaluation: Evaluation, class_names: Sequence[str], coco: CocoMetrics | None
) -> None:
    """Write `classes.csv` and, where there are COCO's metrics, `coco.csv` into a folder."""
    tables = {"classes.csv": class_results(evaluation, class_names)}
    if coco is not None:
        tables["coco.csv"] = pd.DataFrame(coco.items(), columns=["metric", "value"])
    for name, table in tables.items():
        text = table.to_csv(index=False, float_format="%.5f", lineterminator="\n")
        write_text(folder / name, text)


def _aligned(rows: Sequence[Sequence[str]], width: int) -> str:
    """Format rows with their first column to the left and the others `width` characters wide."""
    left = max(5, *(_columns(row[0]) for row in rows))
    return "\n".join(
        row[0] + " " * (left - _columns(row[0])) + "".join(_right(cell, width) for cell in row[1:])
        for row in rows
    )


def _right(text: str, width: int) -> str:
    return " " * (width - _columns(text)) + text


def _columns(text: str) -> int:
    """Return the columns that a text takes: wide characters two, combining marks none."""
    return sum(
        0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1
        for c in text
    )
