"""COCO: one JSON document for many images, with exact boxes `[x, y, width, height]`.

An image is found by its file's folders and name as far as the document gives them. A category
counts by its name where the document gives one, by its id as a 0-based class index where it does
not. An object without a box gets that of its polygons; regions marked `iscrowd` are no objects.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import Path, PurePath, PurePosixPath
from typing import Any, TypeVar

import msgspec

from data.formats.base import (
    SPLIT_NAMES,
    SPLITS,
    Annotation,
    AnnotationError,
    AnnotationFormat,
    ClassLookup,
    FoundDataset,
    Size,
    check_count,
    read_bytes,
    register,
)
from data.images import ImageError, image_size
from data.index_file import Record
from data.instances import Instances, Row
from data.sources import files_under, images_under
from utils.errors import Code, TaskError

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
            self._images.setdefault(_parts(image.file_name)[-1], []).append(image)
        self._category_names = {
            _identity(one.id): str(one.name) for one in records.categories or () if one.name
        }
        self._annotations: dict[Identity, list[CocoAnnotation]] = {}
        for annotation in records.annotations or ():
            self._annotations.setdefault(_identity(annotation.image_id), []).append(annotation)
        known = {_identity(image.id) for image in records.images}
        if self._annotations and known and known.isdisjoint(self._annotations):
            raise AnnotationError(
                f"{path}: no annotation belongs to an image that it lists (ids such as "
                f"{next(iter(known))}, image_id such as {next(iter(self._annotations))})"
            )

    def __call__(self, image_path: str, _size: Size) -> Annotation:
        """Return the objects of an image; AnnotationError if the document does not list it."""
        image = self._image(image_path)
        name = os.path.basename(image_path)
        annotations = self._annotations.get(_identity(image.id), [])
        check_count(len(annotations), f"{self._path}: {name}")
        rows: list[Row] = []
        crowds: list[Row] = []
        unknown: list[str] = []
        for annotation in annotations:
            where = f"{self._path} annotation {annotation.id} of {name}"
            index = self._class_index(annotation.category_id, where)
            if index is None:
                unknown.append(self._category_names[_identity(annotation.category_id)])
                continue
            box = _bbox(annotation, where)
            (crowds if annotation.iscrowd else rows).append((index, *box))
        return Annotation(
            Instances.from_rows(rows),
            tuple(unknown),
            size=_stated_size(image),
            crowds=Instances.from_rows(crowds),
        )

    def _image(self, image_path: str) -> CocoImage:
        """Return the record of a file: the one whose file_name its path ends with."""
        parts = PurePath(image_path).parts
        named = self._images.get(parts[-1], [])
        found = [
            one for one in named if parts[-len(_parts(one.file_name)) :] == _parts(one.file_name)
        ]
        found = found or named
        if not found:
            raise AnnotationError(f"{self._path}: it does not list the image {parts[-1]}")
        if len(found) > 1:
            raise AnnotationError(f"{self._path}: it lists several images called {parts[-1]}")
        return found[0]

    def _class_index(self, category: object, where: str) -> int | None:
        identity = _identity(category)
        if identity in self._category_names:
            return self._classes.index_of(self._category_names[identity])
        if identity is None or not identity.lstrip("-").isdecimal():
            raise AnnotationError(f"{where}: category_id {category!r} is not a whole number")
        return self._classes.require(int(identity), where)


def _parts(file_name: object) -> tuple[str, ...]:
    """Return folders and name of a file_name, which may be written with backslashes."""
    parts = PurePosixPath(str(file_name).replace("\\", "/")).parts
    return tuple(part for part in parts if part not in ("/", "..")) or ("",)


def _identity(value: object) -> Identity:
    """Return what an id is compared by: documents write 1, 1.0 and "1" for the same one."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return str(value) if isinstance(value, int | str) and not isinstance(value, bool) else None


def _stated_size(image: CocoImage) -> Size | None:
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


def find_folder(folder: Path, _class_names: Sequence[str]) -> FoundDataset | None:
    """Find the COCO documents of a folder, or the one given; classes in the order of their ids.

    The split of a document comes from its name, else from its folder's.
    """
    remarks: Counter[str] = Counter()
    documents = _documents(folder, remarks)
    if not documents:
        return None
    root = folder.parent if folder.is_file() else folder
    records: dict[str, list[Record]] = {}
    finder = _ImageFinder(root)
    listed: dict[Path, Path] = {}
    absent: list[str] = []
    for path, document in documents.items():
        found = records.setdefault(_split_of(path, root), [])
        seen: set[Path] = set()
        for image in document.images:
            file = finder.find(path, image)
            if file is None:
                absent.append(str(image.file_name))
                continue
            # One listed twice in a document is refused where its objects are read.
            if file not in seen and listed.setdefault(file, path) != path:
                raise TaskError(
                    Code.DATASET,
                    f"{file} is listed by {listed[file]} and by {path}: keep one of them.",
                )
            if file not in seen:
                found.append(Record(str(file), str(path)))
            seen.add(file)
    if orphans := sum(_orphans(document) for document in documents.values()):
        remarks["annotations of images that are not listed were left out"] += orphans
    if absent:
        said = f"listed images do not exist and were left out, such as {absent[0][:200]!r}"
        remarks[said] += len(absent)
    if not listed:
        hint = " (its backslashes were read as slashes)" if "\\" in "".join(absent[:1]) else ""
        raise TaskError(
            Code.DATASET,
            f"none of the {len(absent)} images that {next(iter(documents))} lists exists, for "
            f"example {absent[0][:200]!r}{hint}: put them beside it or in {root / 'images'}."
            if absent
            else f"{next(iter(documents))} lists no image.",
        )
    return FoundDataset("coco", records, _class_names_of(documents.values()), remarks)


def _orphans(document: CocoRecords) -> int:
    known = {_identity(image.id) for image in document.images}
    return sum(_identity(one.image_id) not in known for one in document.annotations or ())


def _class_names_of(documents: Collection[CocoRecords]) -> tuple[str, ...]:
    """Return category names in the order of their ids, without Roboflow's placeholder.

    Roboflow puts the project's name before the classes: id 0, supercategory none, no objects, and
    the supercategory of all others.
    """
    used = {_identity(one.category_id) for each in documents for one in each.annotations or ()}
    names: dict[str, str] = {}
    for document in documents:
        categories = document.categories or []
        parents = {str(one.supercategory) for one in categories}
        for one in categories:
            key = _identity(one.id)
            placeholder = one.supercategory == "none" and str(one.name) in parents
            if key is not None and one.name and not (placeholder and key not in used):
                names.setdefault(key, str(one.name).strip())
    return tuple(dict.fromkeys(names[key] for key in sorted(names, key=_in_order)))


def _in_order(identity: str) -> tuple[int, str]:
    return (int(identity) if identity.isdecimal() else -1, identity)


def _documents(folder: Path, remarks: Counter[str]) -> dict[Path, CocoRecords]:
    if folder.is_file():
        paths = [folder] if folder.suffix.lower() == ".json" else []
    else:
        paths = files_under(folder, (".json",), depth=3)
    found = {}
    for path in paths:
        try:
            content = read_bytes(str(path))
            records = read_records(content, str(path))
        except NotCocoError:
            continue
        except AnnotationError as error:
            # A file of another program is passed over, a damaged one of annotations is not.
            if folder.is_file() or any(word in content[:4096] for word in COCO_KEYS):
                raise TaskError(Code.DATASET, f"{error}.") from error
            remarks[f"{path.name} is no readable JSON and was passed over"] += 1
            continue
        if records.annotations is not None and records.categories is not None:
            found[path] = records
    # The official folder has key points and stuff of the same images beside the instances.
    official = [path.name.removeprefix("instances_") for path in found if _is_instances(path)]
    return {
        path: records
        for path, records in found.items()
        if _is_instances(path) or not any(path.name.endswith(f"_{name}") for name in official)
    }


def _is_instances(path: Path) -> bool:
    return path.name.startswith("instances_")


def _split_of(path: Path, root: Path) -> str:
    parts = [path.stem] if path.parent == root else [path.stem, path.parent.name]
    named = (split for part in parts for split in SPLITS if split in _splits_in(part))
    return next(named, "")


def _splits_in(name: str) -> set[str]:
    """Return the splits that the words of a name say: `val2017` is one, `valves` is none."""
    words = re.findall(r"[a-z]+", name.lower())
    return {SPLIT_NAMES[word] for word in words if word in SPLIT_NAMES}


class _ImageFinder:
    """Finds the files that documents list, below the folder of the data set."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._by_name: dict[str, list[Path]] = {}
        for path in images_under(root):
            self._by_name.setdefault(path.name, []).append(path)

    def find(self, document: Path, image: CocoImage) -> Path | None:
        """Return the file of an image, or None; TaskError(DATASET) where several fit.

        Its path from the usual folders goes first; else a file of its name, which a name alone may
        have anywhere but in the folder of another split, and one with folders in the usual ones.
        Of several the size decides.
        """
        parts, root = _parts(image.file_name), self._root
        usual = (document.parent, root, root / "images", document.parent / "images")
        for folder in usual:
            if (path := folder.joinpath(*parts)).is_file():
                return path
        split, stated = _split_of(document, root), _stated_size(image)
        found = [
            path
            for path in self._by_name.get(parts[-1], ())
            if (path.parent in usual if len(parts) > 1 else self._fits(path, split))
        ]
        if len(found) > 1 and stated is not None:
            found = [path for path in found if _has_size(path, stated)]
        if len(found) > 1:
            there = " and ".join(str(path) for path in found[:2])
            raise TaskError(
                Code.DATASET,
                f"{document} lists {image.file_name}, which fits {there}: write its folder into "
                "file_name, or keep one of them.",
            )
        return found[0] if found else None

    def _fits(self, path: Path, split: str) -> bool:
        folders = path.relative_to(self._root).parts[:-1]
        said = set().union(*map(_splits_in, folders))
        return not said or not split or split in said


def _has_size(path: Path, stated: Size) -> bool:
    try:
        return stated in (image_size(path), image_size(path, upright=True))
    except ImageError:
        return True  # told where it is read


COCO_KEYS = (b'"images"', b'"annotations"', b'"categories"')
register(
    AnnotationFormat(
        "coco",
        CocoFile,
        starts=(b"{", b"["),
        suffix=".json",
        many_images=True,
        read_folder=find_folder,
        folder_rank=2,
        layout="COCO (a JSON file with images, annotations and categories)",
    )
)
