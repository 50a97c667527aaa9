"""labelme: a JSON file for each image, beside it, with outlines in pixels."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from data.formats.base import (
    MAX_BYTES,
    Annotation,
    AnnotationError,
    AnnotationFile,
    AnnotationFormat,
    ClassLookup,
    FoundDataset,
    check_count,
    read_bytes,
    register,
    split_of,
)
from data.index_file import Record
from data.instances import Instances, Row
from data.sources import IMAGE_SUFFIXES, files_under


def read_shapes(content: bytes, path: str) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Return the shapes of a file and the whole document; AnnotationError for any other JSON."""
    try:
        document = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise AnnotationError(f"{path}: not a readable JSON document ({error})") from None
    shapes = document.get("shapes") if isinstance(document, dict) else None
    if not isinstance(shapes, list) or not all(isinstance(one, dict) for one in shapes):
        raise AnnotationError(f"{path}: not a file of labelme (shapes is no list of outlines)")
    check_count(len(shapes), path)
    return shapes, document


def parse_labelme(content: bytes, path: str, classes: ClassLookup) -> Annotation:
    """Return the boxes around the outlines of a file; lines and points have none."""
    shapes, document = read_shapes(content, path)
    rows: list[Row] = []
    unknown: list[str] = []
    without_box = 0
    for number, shape in enumerate(shapes, start=1):
        box = _box(shape, f"{path} shape {number}")
        index = classes.index_of(str(shape.get("label", "")))
        if index is None:
            unknown.append(str(shape.get("label", "")))
        elif box is None:
            without_box += 1
        else:
            rows.append((index, *box))
    height, width = document.get("imageHeight"), document.get("imageWidth")
    size = (height, width) if isinstance(height, int) and isinstance(width, int) else (0, 0)
    return Annotation(
        Instances.from_rows(rows),
        tuple(unknown),
        without_box=without_box,
        size=size if min(size) > 0 else None,
    )


def _box(shape: dict[str, Any], where: str) -> tuple[float, float, float, float] | None:
    kind = shape.get("shape_type") or "polygon"
    try:
        points = [(float(x), float(y)) for x, y in shape.get("points") or ()]
        if not all(math.isfinite(value) for point in points for value in point):
            raise ValueError
    except (TypeError, ValueError, OverflowError):
        raise AnnotationError(f"{where}: its points are not pairs of numbers") from None
    if kind == "circle" and len(points) == 2:  # the centre and a point of the circle
        (x, y), radius = points[0], math.dist(*points)
        return x - radius, y - radius, x + radius, y + radius
    if len(points) < (3 if kind == "polygon" else 2) or kind not in (
        "polygon",
        "rectangle",
        "mask",
    ):
        return None
    x_all, y_all = zip(*points, strict=True)
    return min(x_all), min(y_all), max(x_all), max(y_all)


def _open(content: bytes, path: str, classes: ClassLookup) -> AnnotationFile:
    annotation = parse_labelme(content, path, classes)
    return lambda _image, _size: annotation


def find_folder(folder: Path, _class_names: Sequence[str]) -> FoundDataset | None:
    """Find labelme files with their images; classes in the order of their names."""
    records: dict[str, list[Record]] = {}
    names: set[str] = set()
    remarks: Counter[str] = Counter()
    for path in files_under(folder, (".json",)) if folder.is_dir() else ():
        try:
            shapes, document = read_shapes(read_bytes(str(path), MAX_BYTES), str(path))
        except AnnotationError:
            continue
        image = _image_of(path, str(document.get("imagePath") or ""))
        if image is None:
            remarks["labelme files whose image is not there were left out"] += 1
            continue
        names.update(str(shape.get("label", "")) for shape in shapes)
        split = split_of(path.relative_to(folder).parts[:-1])
        records.setdefault(split, []).append(Record(str(image), str(path)))
    return FoundDataset("labelme", records, tuple(sorted(names)), remarks) if records else None


def _image_of(path: Path, stated: str) -> Path | None:
    """Return the image that a file states, relative to it, else the one of its stem beside it."""
    place = path.parent / stated.replace("\\", "/")
    if stated and place.is_file():
        return place
    beside = (path.with_suffix(suffix) for suffix in sorted(IMAGE_SUFFIXES))
    return next((image for image in beside if image.is_file()), None)


register(
    AnnotationFormat(
        "labelme",
        _open,
        read_folder=find_folder,
        folder_rank=4,
        layout="labelme (a JSON file beside each image)",
    )
)
