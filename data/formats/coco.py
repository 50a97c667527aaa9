"""COCO: one JSON document for many images, with exact boxes `[x, y, width, height]`.

An image is found by its file's folders and name as far as the document gives them. A category
counts by its name where the document gives one, by its id as a 0-based class index where it does
not. An object without a box gets that of its polygons; regions marked `iscrowd` are no objects.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Sequence
from pathlib import PurePath, PurePosixPath
from typing import Any, TypeVar

import msgspec

from data.formats.base import (
    Annotation,
    AnnotationError,
    AnnotationFormat,
    ClassLookup,
    Size,
    check_count,
    register,
)
from data.instances import Instances, Row

Identity = str | None


class CocoImage(msgspec.Struct, gc=False):
    """A record of `images`."""

    id: Any = None
    file_name: Any = ""
    width: Any = None
    height: Any = None


class CocoCategory(msgspec.Struct, gc=False):
    """A record of `categories`."""

    id: Any = None
    name: Any = None
    supercategory: Any = None


class CocoAnnotation(msgspec.Struct, gc=False):
    """A record of `annotations`; values of any type, since a wrong one concerns its image only."""

    id: Any = None
    image_id: Any = None
    category_id: Any = None
    bbox: Any = None
    iscrowd: Any = None
    segmentation: Any = None


class CocoRecords(msgspec.Struct):
    """The lists of a document; None for one that it does not hold."""

    images: list[CocoImage]
    categories: list[CocoCategory] | None = None
    annotations: list[CocoAnnotation] | None = None


Entry = TypeVar("Entry", CocoImage, CocoCategory, CocoAnnotation)


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
    images = _records(document, "images", CocoImage, path)
    if images is None:
        raise NotCocoError(f"{path}: not a COCO document (images is not a list of records)")
    categories = _records(document, "categories", CocoCategory, path)
    return CocoRecords(images, categories, _records(document, "annotations", CocoAnnotation, path))


def _records(document: object, key: str, kind: type[Entry], path: str) -> list[Entry] | None:
    """Return a list of a document as records; None where it does not hold it."""
    found = document.get(key) if isinstance(document, dict) else None
    if found is None:
        return None
    if not isinstance(found, list) or not all(isinstance(item, dict) for item in found):
        raise NotCocoError(f"{path}: not a COCO document ({key} is not a list of records)")
    known = kind.__struct_fields__
    return [kind(**{name: item[name] for name in known if name in item}) for item in found]


class CocoFile:
    """The objects of each image of a document."""

    def __init__(self, content: bytes, path: str, classes: ClassLookup) -> None:
        self._path = path
        self._classes = classes
        records = read_records(content, path)
        self._images: dict[str, list[CocoImage]] = {}
        for image in records.images:
            self._images.setdefault(file_parts(image.file_name)[-1], []).append(image)
        self._category_names = {
            identity_of(one.id): str(one.name) for one in records.categories or () if one.name
        }
        self._annotations: dict[Identity, list[CocoAnnotation]] = {}
        for annotation in records.annotations or ():
            self._annotations.setdefault(identity_of(annotation.image_id), []).append(annotation)
        known = {identity_of(image.id) for image in records.images}
        if self._annotations and known and known.isdisjoint(self._annotations):
            raise AnnotationError(
                f"{path}: no annotation belongs to an image that it lists (ids such as "
                f"{next(iter(known))}, image_id such as {next(iter(self._annotations))})"
            )

    def __call__(self, image_path: str, _size: Size) -> Annotation:
        """Return the objects of an image; AnnotationError if the document does not list it."""
        image = self._image(image_path)
        name = os.path.basename(image_path)
        annotations = self._annotations.get(identity_of(image.id), [])
        check_count(len(annotations), f"{self._path}: {name}")
        rows: list[Row] = []
        crowds: list[Row] = []
        unknown: list[str] = []
        for annotation in annotations:
            where = f"{self._path} annotation {annotation.id} of {name}"
            index = self._class_index(annotation.category_id, where)
            if index is None:
                unknown.append(self._category_names[identity_of(annotation.category_id)])
                continue
            box = _bbox(annotation, where)
            (crowds if annotation.iscrowd else rows).append((index, *box))
        return Annotation(
            Instances.from_rows(rows),
            tuple(unknown),
            size=stated_size(image),
            crowds=Instances.from_rows(crowds),
        )

    def _image(self, image_path: str) -> CocoImage:
        """Return the record of a file: the one whose file_name its path ends with."""
        parts = PurePath(image_path).parts
        named = self._images.get(parts[-1], [])
        found = []
        for one in named:
            listed = file_parts(one.file_name)
            if parts[-len(listed) :] == listed:
                found.append(one)
        found = found or named
        if not found:
            raise AnnotationError(f"{self._path}: it does not list the image {parts[-1]}")
        if len(found) > 1:
            raise AnnotationError(f"{self._path}: it lists several images called {parts[-1]}")
        return found[0]

    def _class_index(self, category: object, where: str) -> int | None:
        identity = identity_of(category)
        if identity in self._category_names:
            return self._classes.index_of(self._category_names[identity])
        if identity is None or not identity.lstrip("-").isdecimal():
            raise AnnotationError(f"{where}: category_id {category!r} is not a whole number")
        return self._classes.require(int(identity), where)


def file_parts(file_name: object) -> tuple[str, ...]:
    """Return folders and name of a file_name, which may be written with backslashes."""
    parts = PurePosixPath(str(file_name).replace("\\", "/")).parts
    return tuple(part for part in parts if part not in ("/", "..")) or ("",)


def identity_of(value: object) -> Identity:
    """Return what an id is compared by: documents write 1, 1.0 and "1" for the same one."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return str(value) if isinstance(value, int | str) and not isinstance(value, bool) else None


def stated_size(image: CocoImage) -> Size | None:
    """Return the (height, width) that a document states of an image, if it does."""
    stated = (image.height, image.width)
    return stated if all(isinstance(side, int) and side > 0 for side in stated) else None


def _bbox(annotation: CocoAnnotation, where: str) -> tuple[float, float, float, float]:
    """Return x1, y1, x2, y2 of an object: of its box, or of its polygons without one."""
    value, outlines = annotation.bbox, annotation.segmentation
    if not value and isinstance(outlines, list) and outlines:
        flat = outlines if isinstance(outlines[0], list) else [outlines]
        numbers = _finite([number for outline in flat for number in outline])
        if numbers is None or len(numbers) < 6 or len(numbers) % 2:
            raise AnnotationError(f"{where}: it has no bbox, and its polygon is none")
        x, y = numbers[::2], numbers[1::2]
        return min(x), min(y), max(x), max(y)
    sides = _finite(value if isinstance(value, list) else ())
    if sides is None or len(sides) != 4:
        raise AnnotationError(f"{where}: bbox {str(value)[:80]} is not [x, y, width, height]")
    return sides[0], sides[1], sides[0] + sides[2], sides[1] + sides[3]


def _finite(values: Sequence[Any]) -> list[float] | None:
    try:
        numbers = [float(value) for value in values]
    except (TypeError, ValueError, OverflowError):
        return None
    return numbers if all(map(math.isfinite, numbers)) else None


register(AnnotationFormat("coco", CocoFile, starts=(b"{", b"["), suffix=".json", many_images=True))
