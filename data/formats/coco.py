"""The images, categories and annotations of a COCO document in few bytes, found by image."""

from __future__ import annotations

import json
import math
from array import array
from collections.abc import Mapping
from pathlib import PurePath

import numpy as np

from data.formats.json_lists import Irregular, read_lists

Identity = int | str | None
LARGEST = 2**62
"""Numbers up to this size are kept as numbers; a larger one as it stands."""


class AnnotationError(Exception):
    """An annotation file that cannot be used: one clause with file, line, value and rule."""


class CocoLabels:
    """What a document lists; the annotations are there once `close` was called."""

    def __init__(self) -> None:
        self.category_names: dict[Identity, str] = {}
        self.image_ids: dict[str, Identity] = {}
        self.ambiguous: set[str] = set()
        """Names that several images have."""
        self._slots: dict[Identity, int] = {}
        self._owners, self._numbers, self._categories = array("q"), array("q"), array("q")
        self._boxes = array("d")
        self._odd: dict[int, tuple[object, object, object]] = {}
        self._order, self._ends = np.zeros(0, np.int64), np.zeros(0, np.int64)

    def add_image(self, item: Mapping[str, object]) -> None:
        """An image, known by the base name of its file."""
        name = PurePath(str(item.get("file_name", ""))).name
        if name in self.image_ids:
            self.ambiguous.add(name)
        self.image_ids[name] = identity(item.get("id"))

    def add_category(self, item: Mapping[str, object]) -> None:
        """A category, if it has a name."""
        if item.get("name"):
            self.category_names[identity(item.get("id"))] = str(item["name"])

    def add_annotation(self, item: Mapping[str, object]) -> None:
        """An annotation: numbers in arrays, and anything odd as it stands."""
        position = len(self._owners)
        owner = identity(item.get("image_id"))
        self._owners.append(self._slots.setdefault(owner, len(self._slots)))
        number, category, box = item.get("id"), item.get("category_id"), item.get("bbox")
        corners = _plain_box(box)
        if corners is None or not (_plain_number(number) and _plain_number(category)):
            self._odd[position] = number, category, box
            number, category, corners = 0, 0, (0.0, 0.0, 0.0, 0.0)
        assert isinstance(number, int)
        assert isinstance(category, int)
        self._numbers.append(number)
        self._categories.append(category)
        self._boxes.extend(corners)

    def close(self) -> CocoLabels:
        """Nothing more is added: put the annotations in the order of their images."""
        owners = np.array(self._owners, np.int64)
        self._order = np.argsort(owners, kind="stable")
        self._ends = np.cumsum(np.bincount(owners, minlength=len(self._slots)))
        return self

    def annotations_of(self, name: str) -> list[tuple[object, object, object]]:
        """id, category_id and bbox of the annotations of an image, in the document's order."""
        slot = self._slots.get(self.image_ids[name])
        if slot is None:
            return []
        start = int(self._ends[slot - 1]) if slot else 0
        return [self._annotation(one) for one in self._order[start : self._ends[slot]].tolist()]

    def _annotation(self, position: int) -> tuple[object, object, object]:
        if position in self._odd:
            return self._odd[position]
        box = self._boxes[4 * position : 4 * position + 4].tolist()
        return self._numbers[position], self._categories[position], box


def coco_labels(content: bytes, path: str) -> CocoLabels:
    """What a document lists. Raises AnnotationError, which calls it by `path`."""
    labels = CocoLabels()
    takers = {
        "images": labels.add_image,
        "categories": labels.add_category,
        "annotations": labels.add_annotation,
    }
    try:
        if "images" in read_lists(content, takers):
            return labels.close()
    except Irregular:
        pass
    return _labels_as_a_whole(content, path)


def _labels_as_a_whole(content: bytes, path: str) -> CocoLabels:
    """The same for a document of any form, or the reason why it is none."""
    try:
        document = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise AnnotationError(f"{path}: not a readable JSON document ({error})") from None
    labels = CocoLabels()
    for item in _records(document, "images", path):
        labels.add_image(item)
    for item in _records(document, "categories", path, required=False):
        labels.add_category(item)
    for item in _records(document, "annotations", path, required=False):
        labels.add_annotation(item)
    return labels.close()


def identity(value: object) -> Identity:
    """What an id is compared by: None for anything but a number or a text."""
    return value if isinstance(value, int | str) else None


def _plain_number(value: object) -> bool:
    return type(value) is int and -LARGEST < value < LARGEST


def _plain_box(value: object) -> tuple[float, ...] | None:
    """Four finite numbers, or None for anything else."""
    if type(value) is not list or len(value) != 4:
        return None
    if not all(type(number) is float or _plain_number(number) for number in value):
        return None
    corners = tuple(map(float, value))
    return corners if all(map(math.isfinite, corners)) else None


def _records(
    document: object, key: str, path: str, *, required: bool = True
) -> list[Mapping[str, object]]:
    found = document.get(key) if isinstance(document, Mapping) else None
    if found is None and not required:
        return []
    if not isinstance(found, list) or not all(isinstance(item, Mapping) for item in found):
        raise AnnotationError(f"{path}: not a COCO document ({key} is not a list of records)")
    return found
