"""Ark: YMIR's text annotations, a line `class, xmin, ymin, xmax, ymax[, quality[, angle]]` a box.

Corners are inclusive integers (`xmax = x + w - 1`), so 1 is added to xmax and ymax.
"""

from __future__ import annotations

from data.formats.base import (
    Annotation,
    AnnotationError,
    AnnotationFile,
    AnnotationFormat,
    ClassLookup,
    check_count,
    finite_numbers,
    register,
)
from data.instances import Instances, Row


def parse_ark(text: str, path: str, classes: ClassLookup) -> Annotation:
    """Return the objects of a text; an empty one is a background image.

    A rotated box (angle not 0) is taken as the upright one that it names, and counted.
    """
    rows: list[Row] = []
    rotated = 0
    for number, line in enumerate(text.split("\n"), start=1):
        words = line.replace(",", " ").split()
        if not words:
            continue
        where = f"{path} line {number}"
        values = finite_numbers(words, where)
        if len(values) < 5:
            raise AnnotationError(
                f"{where}: {line.strip()[:60]!r} has {len(values)} numbers; "
                "an ark line is class, xmin, ymin, xmax, ymax"
            )
        x1, y1, x2, y2 = values[1:5]
        rows.append((classes.require(values[0], where), x1, y1, x2 + 1, y2 + 1))
        rotated += len(values) > 6 and values[6] != 0
        check_count(len(rows), path)
    return Annotation(Instances.from_rows(rows), rotated=rotated)


def _open(content: bytes, path: str, classes: ClassLookup) -> AnnotationFile:
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise AnnotationError(f"{path}: neither ark text, XML nor JSON") from None
    annotation = parse_ark(text, path, classes)
    return lambda _image, _size: annotation


register(AnnotationFormat("ark", _open))
