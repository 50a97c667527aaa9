"""COCO: one JSON document for many images, with exact boxes `[x, y, width, height]`.

Images are found by the base name of their file. A category counts by its name where the document
gives one, by its id as a 0-based class index where it does not. `area`, `iscrowd` and
`segmentation` are ignored, except that a labelled folder is read without crowd regions.
"""

from __future__ import annotations

import json
import math
import re
from array import array
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePath
from typing import Any

import msgspec
import numpy as np

from data.formats.base import (
    SPLITS,
    Annotation,
    AnnotationError,
    AnnotationFile,
    AnnotationFormat,
    ClassLookup,
    LabelledFolder,
    LabelledImage,
    NamedBox,
    check_count,
    read_bytes,
    register,
)
from data.instances import Instances, Row
from data.sources import images_under
from utils.errors import Code, TaskError

Identity = int | str | None
MAX_NUMBER = 2**62
"""Integers up to this size go into arrays; larger ones are kept as they are."""


class CocoImage(msgspec.Struct, gc=False):
    """A record of `images`."""

    id: Any = None
    file_name: Any = ""


class CocoCategory(msgspec.Struct, gc=False):
    """A record of `categories`."""

    id: Any = None
    name: Any = None


class CocoAnnotation(msgspec.Struct, gc=False):
    """A record of `annotations`; values of any type, since a wrong one concerns its image only."""

    id: Any = None
    image_id: Any = None
    category_id: Any = None
    bbox: Any = None
    iscrowd: Any = None


class CocoRecords(msgspec.Struct):
    """The lists of a document; None for one that it does not hold."""

    images: list[CocoImage]
    categories: list[CocoCategory] | None = None
    annotations: list[CocoAnnotation] | None = None


class NotCocoError(AnnotationError):
    """A JSON document without the lists of COCO."""


def read_records(content: bytes, path: str) -> CocoRecords:
    """Parse a document; AnnotationError where it is no JSON, NotCocoError where it is no COCO."""
    try:
        content.decode()  # msgspec does not check text that it skips
        return msgspec.json.decode(content, type=CocoRecords)
    except (UnicodeDecodeError, msgspec.DecodeError, RecursionError):
        pass
    # Other encodings, NaN and numbers of any size, as Python's json writes and reads them.
    try:
        document = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise AnnotationError(f"{path}: not a readable JSON document ({error})") from None
    for key in CocoRecords.__struct_fields__:
        found = document.get(key) if isinstance(document, dict) else None
        if found is None and key != "images":
            continue
        if not isinstance(found, list) or not all(isinstance(item, dict) for item in found):
            raise NotCocoError(f"{path}: not a COCO document ({key} is not a list of records)")
    return msgspec.convert(document, CocoRecords)


class CocoFile:
    """A document as arrays of few bytes an annotation, with the objects of each image."""

    def __init__(self, content: bytes, path: str, classes: ClassLookup) -> None:
        self._path = path
        self._classes = classes
        records = read_records(content, path)
        self._image_ids: dict[str, Identity] = {}
        self._ambiguous: set[str] = set()
        for image in records.images:
            name = PurePath(str(image.file_name)).name
            if name in self._image_ids:
                self._ambiguous.add(name)
            self._image_ids[name] = _identity(image.id)
        self._category_names = {
            _identity(one.id): str(one.name) for one in records.categories or () if one.name
        }
        self._fill(records.annotations or ())

    def _fill(self, annotations: Sequence[CocoAnnotation]) -> None:
        """Keep the annotations as arrays, in the order of their images, and odd ones as read."""
        self._slots: dict[Identity, int] = {}
        self._odd: dict[int, tuple[object, object, object]] = {}
        self._numbers, self._categories, self._boxes = array("q"), array("q"), array("d")
        owners = array("q")
        for position, one in enumerate(annotations):
            owners.append(self._slots.setdefault(_identity(one.image_id), len(self._slots)))
            number, category, box = one.id, one.category_id, _plain_box(one.bbox)
            if box is None or not (_is_plain(number) and _is_plain(category)):
                self._odd[position] = number, category, one.bbox
                number, category, box = 0, 0, (0.0, 0.0, 0.0, 0.0)
            self._numbers.append(number)
            self._categories.append(category)
            self._boxes.extend(box)
        owner = np.array(owners, np.int64)
        self._order = np.argsort(owner, kind="stable")
        self._ends = np.cumsum(np.bincount(owner, minlength=len(self._slots)))

    def __call__(self, image_path: str) -> Annotation:
        """Return the objects of an image; AnnotationError if the document does not list it."""
        name = PurePath(image_path).name
        if name not in self._image_ids:
            raise AnnotationError(f"{self._path}: it does not list the image {name}")
        if name in self._ambiguous:
            raise AnnotationError(f"{self._path}: it lists several images called {name}")
        rows: list[Row] = []
        unknown: list[str] = []
        annotations = self.annotations_of(name)
        check_count(len(annotations), f"{self._path}: {name}")
        for number, category_id, box in annotations:
            where = f"{self._path} annotation {number} of {name}"
            category = _identity(category_id)
            index = self._class_index(category, where)
            if index is None:
                unknown.append(self._category_names[category])
                continue
            x, y, width, height = _bbox(box, where)
            rows.append((index, x, y, x + width, y + height))
        return Annotation(Instances.from_rows(rows), tuple(unknown))

    def annotations_of(self, name: str) -> list[tuple[object, object, object]]:
        """Return id, category_id and bbox of the annotations of an image, in their order."""
        slot = self._slots.get(self._image_ids[name])
        if slot is None:
            return []
        start = int(self._ends[slot - 1]) if slot else 0
        return [self._annotation(one) for one in self._order[start : self._ends[slot]].tolist()]

    def _annotation(self, position: int) -> tuple[object, object, object]:
        if position in self._odd:
            return self._odd[position]
        box = self._boxes[4 * position : 4 * position + 4].tolist()
        return self._numbers[position], self._categories[position], box

    def _class_index(self, category: Identity, where: str) -> int | None:
        if category in self._category_names:
            return self._classes.index_of(self._category_names[category])
        if isinstance(category, bool) or not isinstance(category, int):
            raise AnnotationError(f"{where}: category_id {category!r} is not a whole number")
        return self._classes.require(category, where)


def _identity(value: object) -> Identity:
    """Return what an id is compared by: None for anything but a number or a text."""
    return value if isinstance(value, int | str) else None


def _is_plain(value: object) -> bool:
    return type(value) is int and -MAX_NUMBER < value < MAX_NUMBER


def _plain_box(value: object) -> tuple[float, ...] | None:
    """Return four finite numbers, or None for anything else."""
    if type(value) is not list or len(value) != 4:
        return None
    if not all(type(number) is float or _is_plain(number) for number in value):
        return None
    corners = tuple(map(float, value))
    return corners if all(map(math.isfinite, corners)) else None


def _bbox(value: object, where: str) -> tuple[float, float, float, float]:
    try:
        x, y, width, height = (float(number) for number in (value if isinstance(value, list) else ()))
        readable = all(map(math.isfinite, (x, y, width, height)))
    except (TypeError, ValueError, OverflowError):
        readable = False
    if not readable:
        raise AnnotationError(f"{where}: bbox {str(value)[:80]} is not [x, y, width, height]")
    return x, y, width, height


def read_folder(folder: Path, _class_names: Sequence[str]) -> LabelledFolder | None:
    """Read the COCO documents of a folder, or the one given; classes in the order of their ids.

    The split of a document comes from its name, else from its folder's. Crowd regions are left out.
    """
    documents = _documents(folder)
    if not documents:
        return None
    remarks: Counter[str] = Counter()
    root = folder.parent if folder.is_file() else folder
    by_name = {path.name: path for path in images_under(root)}
    images: dict[str, list[LabelledImage]] = {}
    names: dict[int, str] = {}
    for path, records in documents.items():
        try:
            names.update({int(one.id): str(one.name) for one in records.categories or ()})
            boxes = _named_boxes(records.annotations or (), names, remarks)
            found = images.setdefault(_split_of(path, root), [])
            for image in records.images:
                file = _image_file(root, path, str(image.file_name), by_name)
                if file is None:
                    remarks["listed images do not exist and were left out"] += 1
                else:
                    found.append(LabelledImage(file, tuple(boxes.get(image.id, ()))))
        except (KeyError, TypeError, ValueError) as error:
            raise TaskError(Code.DATASET, f"{path} is no valid COCO file: {error!r}.") from error
    return LabelledFolder("coco", images, tuple(names[key] for key in sorted(names)), remarks)


def _documents(folder: Path) -> dict[Path, CocoRecords]:
    if folder.is_file():
        paths = [folder] if folder.suffix == ".json" else []
    else:
        paths = sorted({*folder.glob("*.json"), *folder.glob("*/*.json")})
    found = {}
    for path in paths:
        try:
            records = read_records(read_bytes(str(path)), str(path))
        except NotCocoError:
            continue
        except AnnotationError as error:
            raise TaskError(Code.DATASET, f"{error}.") from error
        if records.annotations is not None and records.categories is not None:
            found[path] = records
    return found


def _named_boxes(
    annotations: Iterable[CocoAnnotation], names: Mapping[int, str], remarks: Counter[str]
) -> dict[object, list[NamedBox]]:
    boxes: dict[object, list[NamedBox]] = {}
    for one in annotations:
        if one.iscrowd:
            remarks["COCO crowd regions were left out"] += 1
            continue
        x, y, width, height = (float(value) for value in one.bbox)
        box = (names[int(one.category_id)], x, y, x + width, y + height)
        boxes.setdefault(one.image_id, []).append(box)
    return boxes


def _split_of(path: Path, root: Path) -> str:
    parts = [path.stem] if path.parent == root else [path.stem, path.parent.name]
    for part in parts:
        for split in SPLITS:
            if re.search(rf"(?<![a-z]){split}", part.lower()):
                return split
    return ""


def _image_file(root: Path, document: Path, name: str, by_name: Mapping[str, Path]) -> Path | None:
    for candidate in (document.parent / name, root / name, root / "images" / name):
        if candidate.is_file():
            return candidate
    return by_name.get(Path(name).name)


register(
    AnnotationFormat(
        "coco",
        CocoFile,
        starts=(b"{", b"["),
        suffix=".json",
        many_images=True,
        read_folder=read_folder,
        folder_rank=2,
    )
)
