"""An evaluation as tables: per class and object size, for the log and as CSV files."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from evaluation.coco import CocoMetrics
from evaluation.evaluator import SIZES, Evaluation
from evaluation.metrics import ClassMetrics
from utils.atomic import write_text

CLASSES_CSV = "classes.csv"
COCO_CSV = "coco.csv"
COLUMNS = ("class", "size", "labels", "tp", "fp", "fn", "precision", "recall", "ap50", "ap50_95")
"""Counts, precision and recall are at IoU 0.5 and the confidence of the best mean F1."""


@dataclass(frozen=True)
class Row:
    """One line: a class or all of them, of one object size or of all."""

    name: str
    size: str
    labels: int
    tp: int
    fp: int
    fn: int
    precision: float
    recall: float
    ap50: float
    ap50_95: float


def rows_of(metrics: ClassMetrics, class_names: Sequence[str], size: str) -> Iterator[Row]:
    """The line for all classes (sums of counts, means of the rest), then one for each class that
    has labels; nothing where no class has any.
    """
    if not len(metrics.classes):
        return
    yield Row(
        "all",
        size,
        int(metrics.labels.sum()),
        int(metrics.tp.sum()),
        int(metrics.fp.sum()),
        int(metrics.fn.sum()),
        float(metrics.precision.mean()),
        float(metrics.recall.mean()),
        float(metrics.ap[:, 0].mean()),
        float(metrics.ap.mean()),
    )
    for place, index in enumerate(metrics.classes):
        yield Row(
            class_names[index],
            size,
            int(metrics.labels[place]),
            int(metrics.tp[place]),
            int(metrics.fp[place]),
            int(metrics.fn[place]),
            float(metrics.precision[place]),
            float(metrics.recall[place]),
            float(metrics.ap[place, 0]),
            float(metrics.ap[place].mean()),
        )


def class_table(evaluation: Evaluation, class_names: Sequence[str]) -> str:
    """A table of counts, precision, recall and average precision per class, for the log."""
    names = ["all", *class_names]
    width = max([len(name) for name in names] + [5])
    heading = ("labels", "TP", "FP", "FN", "P", "R", "mAP50", "mAP50-95")
    lines = [f"{'class':<{width}}" + "".join(f"{word:>10}" for word in heading)]
    rows = list(rows_of(evaluation.classes, class_names, "all"))
    for row in rows or [Row("all", "all", 0, 0, 0, 0, 0.0, 0.0, 0.0, 0.0)]:
        counts = (row.labels, row.tp, row.fp, row.fn)
        shares = (row.precision, row.recall, row.ap50, row.ap50_95)
        lines.append(
            f"{row.name:<{width}}"
            + "".join(f"{count:>10}" for count in counts)
            + "".join(f"{share:>10.3f}" for share in shares)
        )
    return "\n".join(lines)


def size_table(evaluation: Evaluation, class_names: Sequence[str]) -> str:
    """A table of labels, recall and average precision per class and object size, for the log.

    Sizes are COCO's: areas below 32 x 32 and below 96 x 96 pixels of the original, and the rest.
    Empty for an evaluation that was not told to look at sizes.
    """
    if not evaluation.by_size:
        return ""
    width = max([len(name) for name in class_names] + [5])
    heading = ("labels", "R", "AP50", "AP50-95")
    lines = [
        f"{'':<{width}}" + "".join(f"{size:>36}" for size in SIZES),
        f"{'class':<{width}}" + "".join(f"{word:>9}" for _ in SIZES for word in heading),
    ]
    found = {
        (row.name, row.size): row
        for size, metrics in zip(SIZES, evaluation.by_size, strict=True)
        for row in rows_of(metrics, class_names, size)
    }
    for name in ("all", *(class_names[c] for c in evaluation.classes.classes)):
        cells = [_size_cell(found.get((name, size))) for size in SIZES]
        lines.append(f"{name:<{width}}" + "".join(cells))
    return "\n".join(lines)


def _size_cell(row: Row | None) -> str:
    if row is None:
        return f"{0:>9}" + f"{'-':>9}" * 3
    return f"{row.labels:>9}{row.recall:>9.3f}{row.ap50:>9.3f}{row.ap50_95:>9.3f}"


def classes_csv(evaluation: Evaluation, class_names: Sequence[str]) -> str:
    """The whole table as CSV: every class and all of them, of every size and of all."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    tables = [("all", evaluation.classes), *zip(SIZES, evaluation.by_size, strict=False)]
    for size, metrics in tables:
        for row in rows_of(metrics, class_names, size):
            shares = (row.precision, row.recall, row.ap50, row.ap50_95)
            counts = (row.labels, row.tp, row.fp, row.fn)
            writer.writerow((row.name, row.size, *counts, *(f"{v:.5f}" for v in shares)))
    return text.getvalue()


def coco_table(metrics: CocoMetrics) -> str:
    """COCO's twelve figures in two lines for the log; '-' where no label has the size."""
    named = [(name, "-" if v is None else f"{v:.3f}") for name, v in metrics.named()]
    half = len(named) // 2
    return "\n".join(
        "COCO  " + "  ".join(f"{name} {text}" for name, text in part)
        for part in (named[:half], named[half:])
    )


def coco_csv(metrics: CocoMetrics) -> str:
    """COCO's twelve figures as CSV, one line each; empty where no label has the size."""
    lines = [f"{name},{'' if v is None else f'{v:.5f}'}" for name, v in metrics.named()]
    return "\n".join(("metric,value", *lines)) + "\n"


def write_tables(
    folder: Path,
    evaluation: Evaluation,
    class_names: Sequence[str],
    coco: CocoMetrics | None = None,
) -> list[Path]:
    """Write `classes.csv` and, where there are COCO's figures, `coco.csv` into a folder."""
    written = [folder / CLASSES_CSV]
    write_text(written[0], classes_csv(evaluation, class_names))
    if coco is not None:
        written.append(folder / COCO_CSV)
        write_text(written[1], coco_csv(coco))
    return written
