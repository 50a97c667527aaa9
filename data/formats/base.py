"""Annotation files (ark text, Pascal VOC, COCO) to rows of class and box corners.

All three give `Objects`: boxes are xyxy in pixels with exclusive right and bottom edges. Ark and
VOC hold inclusive integer corners (`xmax = x + w - 1`), so 1 is added to their xmax and ymax; COCO
holds exact `[x, y, w, h]`. Corners are given as read: `data.dataset_index` clips and cleans.
"""

from __future__ import annotations

import math
import os
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePath
from threading import Lock
from typing import NamedTuple, Protocol

from data.formats.coco import AnnotationError, Identity, coco_labels, identity
from data.formats.voc import ANGLE, SIDES, voc_objects

MOST_BYTES = 64 * 2**20
"""For the annotation of one image; a COCO document, which holds many, may be larger."""
MOST_OBJECTS = 100_000
"""For one image: more would only exhaust time and memory later."""


class Object(NamedTuple):
    """One annotated object: class index and corners (xyxy, pixels, exclusive right and bottom)."""

    class_index: int
    x1: float
    y1: float
    x2: float
    y2: float


@dataclass
class Objects:
    """The objects of one image, and what was left out of them."""

    rows: list[Object] = field(default_factory=list)
    unknown_classes: list[str] = field(default_factory=list)
    rotated: int = 0
    without_box: int = 0


class ClassLookup:
    """Class names to indices: the exact name first, then one that differs only in case."""

    def __init__(self, names: Sequence[str]) -> None:
        self.names = tuple(names)
        self._exact = {name: index for index, name in enumerate(self.names)}
        self._folded: dict[str, int] = {}
        for name, index in self._exact.items():
            self._folded.setdefault(name.strip().lower(), index)

    def index_of(self, name: str) -> int | None:
        """The index of a class name, or None when there is no such class."""
        name = name.strip()
        return self._exact.get(name, self._folded.get(name.lower()))

    def require(self, index: float, where: str) -> int:
        """`index` as a whole number in range; AnnotationError with the rule otherwise."""
        # The range first: a number of any size can be compared, but not made another type.
        if not 0 <= index < len(self.names) or index != int(index):
            shown = f"{index:g}" if isinstance(index, float) else str(index)[:40]
            raise AnnotationError(
                f"{where}: class index {shown} is not a whole number "
                f"from 0 to {len(self.names) - 1} ({len(self.names)} class names)"
            )
        return int(index)


def parse_ark(text: str, path: str, classes: ClassLookup) -> Objects:
    """Lines `class, xmin, ymin, xmax, ymax[, quality[, angle]]`; an empty text is a background.

    A rotated box (angle not 0) is taken as the upright one that it names, and counted.
    """
    objects = Objects()
    for number, line in enumerate(text.split("\n"), start=1):
        words = line.replace(",", " ").split()
        if not words:
            continue
        where = f"{path} line {number}"
        values = _numbers(words, where)
        if len(values) < 5:
            raise AnnotationError(
                f"{where}: {line.strip()[:60]!r} has {len(values)} numbers; "
                "an ark line is class, xmin, ymin, xmax, ymax"
            )
        x1, y1, x2, y2 = values[1:5]
        objects.rows.append(Object(classes.require(values[0], where), x1, y1, x2 + 1, y2 + 1))
        objects.rotated += len(values) > 6 and values[6] != 0
        _refuse_too_many(len(objects.rows), path)
    return objects


def parse_voc(content: bytes, path: str, classes: ClassLookup) -> Objects:
    """A Pascal VOC document; objects without a box or of an unknown class are counted, not kept.

    The document's own `filename` and `size` are not looked at: the index names the image, and its
    header the size. Entities and external references are refused.
    """
    objects = Objects()
    for number, (name, box) in enumerate(voc_objects(content, path, most=MOST_OBJECTS), start=1):
        where = f"{path} object {number}"
        name = name.strip()
        if not name:
            raise AnnotationError(f"{where}: it has no name")
        if box is None:
            objects.without_box += 1
            continue
        index = classes.index_of(name)
        if index is None:
            objects.unknown_classes.append(name)
            continue
        x1, y1, x2, y2 = _corners(box, where)
        objects.rows.append(Object(index, x1, y1, x2 + 1, y2 + 1))
        objects.rotated += _number(box.get(ANGLE) or "0", where) != 0
    return objects


class CocoFile:
    """One COCO document for many images, parsed once; images are found by their base name.

    A category counts by its name where the document gives one, by its id as a 0-based class index
    where it does not. `area`, `iscrowd` and `segmentation` are not looked at.
    """

    def __init__(self, content: bytes, path: str, classes: ClassLookup) -> None:
        self.path = path
        self._classes = classes
        self._labels = coco_labels(content, path)

    def objects_of(self, image_path: str) -> Objects:
        """The objects of one image; AnnotationError when the document does not list it."""
        name, labels = PurePath(image_path).name, self._labels
        if name not in labels.image_ids:
            raise AnnotationError(f"{self.path}: it does not list the image {name}")
        if name in labels.ambiguous:
            raise AnnotationError(f"{self.path}: it lists several images called {name}")
        objects, found = Objects(), labels.annotations_of(name)
        _refuse_too_many(len(found), f"{self.path}: {name}")
        for number, category_id, box in found:
            where = f"{self.path} annotation {number} of {name}"
            category = identity(category_id)
            index = self._class_index(category, where)
            if index is None:
                objects.unknown_classes.append(labels.category_names[category])
                continue
            x, y, width, height = _coco_box(box, where)
            objects.rows.append(Object(index, x, y, x + width, y + height))
        return objects

    def _class_index(self, category: Identity, where: str) -> int | None:
        if category in self._labels.category_names:
            return self._classes.index_of(self._labels.category_names[category])
        if isinstance(category, bool) or not isinstance(category, int):
            raise AnnotationError(f"{where}: category_id {category!r} is not a whole number")
        return self._classes.require(category, where)


class Reader(Protocol):
    """Reads the annotation of one image, from several threads; AnnotationError if unusable."""

    def read(self, path: str, image_path: str) -> Objects:
        """The objects of an image in an annotation file."""
        ...


class AnnotationReader:
    """Reads annotation files of any of the three formats, recognised by their content.

    Safe to call from several threads; a COCO document is parsed once and kept.
    """

    def __init__(self, class_names: Sequence[str]) -> None:
        self._classes = ClassLookup(class_names)
        self._lock = Lock()
        self._documents: dict[str, CocoFile | AnnotationError] = {}

    def read(self, path: str, image_path: str) -> Objects:
        """The objects of an image in an annotation file; AnnotationError if it is unusable."""
        if path in self._documents or path.lower().endswith(".json"):
            return self._coco(path).objects_of(image_path)
        content = _read_bytes(path, MOST_BYTES)
        start = content[:64].removeprefix(b"\xef\xbb\xbf").lstrip()
        if start.startswith((b"<", b"\xff\xfe", b"\xfe\xff")):
            return parse_voc(content, path, self._classes)
        if start.startswith((b"{", b"[")):
            return self._coco(path).objects_of(image_path)
        try:
            text = content.decode("utf-8-sig")
        except UnicodeDecodeError:
            raise AnnotationError(f"{path}: neither ark text, XML nor JSON") from None
        return parse_ark(text, path, self._classes)

    def _coco(self, path: str) -> CocoFile:
        with self._lock:
            if path not in self._documents:
                try:
                    self._documents[path] = CocoFile(_read_bytes(path), path, self._classes)
                except AnnotationError as error:
                    self._documents[path] = error
            document = self._documents[path]
        if isinstance(document, AnnotationError):
            raise document
        return document


def _read_bytes(path: str, limit: int | None = None) -> bytes:
    try:
        found = os.stat(path)
        # A pipe or a device may never end.
        if not stat.S_ISREG(found.st_mode):
            raise AnnotationError(f"{path}: not a file")
        with open(path, "rb") as file:
            # A read makes room for all that it is asked for: no more than the file is said to hold.
            content = file.read() if limit is None else file.read(min(found.st_size, limit) + 1)
            if limit is not None and len(content) > found.st_size:
                content += file.read(limit + 1 - len(content))
    except OSError as error:
        raise AnnotationError(f"{path}: {error.strerror or 'cannot be read'}") from None
    except ValueError:
        raise AnnotationError(f"{path!r}: no path holds a zero byte") from None
    if limit is not None and len(content) > limit:
        raise AnnotationError(f"{path}: larger than {limit >> 20} MiB, for one image")
    return content


def _refuse_too_many(count: int, where: str) -> None:
    if count > MOST_OBJECTS:
        raise AnnotationError(f"{where}: more than {MOST_OBJECTS} objects in one image")


def _numbers(words: Sequence[str], where: str) -> list[float]:
    try:
        values = [float(word) for word in words]
        if all(map(math.isfinite, values)):
            return values
    except ValueError:
        pass
    return [_number(word, where) for word in words]


def _number(word: str, where: str) -> float:
    try:
        value = float(word)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise AnnotationError(f"{where}: {word[:40]!r} is not a number")
    return value


def _corners(box: Mapping[str, str], where: str) -> list[float]:
    """The four sides; where one is no number, AnnotationError says which."""
    try:
        values = [float(box[side]) for side in SIDES]
        if all(map(math.isfinite, values)):
            return values
    except (KeyError, ValueError):
        pass
    return [_number(box.get(side, "").strip(), f"{where} {side}") for side in SIDES]


def _coco_box(value: object, where: str) -> tuple[float, float, float, float]:
    try:
        listed = value if isinstance(value, list) else ()
        x, y, width, height = (float(number) for number in listed)
        readable = all(map(math.isfinite, (x, y, width, height)))
    except (TypeError, ValueError, OverflowError):
        readable = False
    if not readable:
        raise AnnotationError(f"{where}: bbox {str(value)[:80]} is not [x, y, width, height]")
    return x, y, width, height
