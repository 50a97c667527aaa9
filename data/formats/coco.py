"""COCO: one JSON document for many images, with exact boxes `[x, y, width, height]`.

Images are found by the base name of their file. A category counts by its name where the document
gives one, by its id as a 0-based class index where it does not. `area`, `iscrowd` and
`segmentation` are ignored, except that a labelled folder is read without crowd regions.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePath
from typing import Any, TypeVar

import msgspec

from data.formats.base import (
    SPLITS,
    Annotation,
    AnnotationError,
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


Record = TypeVar("Record", CocoImage, CocoCategory, CocoAnnotation)


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


def _records(document: object, key: str, kind: type[Record], path: str) -> list[Record] | None:
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
        self._annotations: dict[Identity, list[CocoAnnotation]] = {}
        for annotation in records.annotations or ():
            self._annotations.setdefault(_identity(annotation.image_id), []).append(annotation)

    def __call__(self, image_path: str) -> Annotation:
        """Return the objects of an image; AnnotationError if the document does not list it."""
        name = PurePath(image_path).name
        if name not in self._image_ids:
            raise AnnotationError(f"{self._path}: it does not list the image {name}")
        if name in self._ambiguous:
            raise AnnotationError(f"{self._path}: it lists several images called {name}")
        annotations = self._annotations.get(self._image_ids[name], [])
        check_count(len(annotations), f"{self._path}: {name}")
        rows: list[Row] = []
        unknown: list[str] = []
        for annotation in annotations:
            where = f"{self._path} annotation {annotation.id} of {name}"
            category = _identity(annotation.category_id)
            index = self._class_index(category, where)
            if index is None:
                unknown.append(self._category_names[category])
                continue
            x, y, width, height = _bbox(annotation.bbox, where)
            rows.append((index, x, y, x + width, y + height))
        return Annotation(Instances.from_rows(rows), tuple(unknown))

    def _class_index(self, category: Identity, where: str) -> int | None:
        if category in self._category_names:
            return self._classes.index_of(self._category_names[category])
        if isinstance(category, bool) or not isinstance(category, int):
            raise AnnotationError(f"{where}: category_id {category!r} is not a whole number")
        return self._classes.require(category, where)


def _identity(value: object) -> Identity:
    """Return what an id is compared by: None for anything but a number or a text."""
    return value if isinstance(value, int | str) else None


def _bbox(value: object, where: str) -> tuple[float, float, float, float]:
    try:
        x, y, width, height = (
            float(number) for number in (value if isinstance(value, list) else ())
        )
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
