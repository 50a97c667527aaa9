"""Read a labelled data set of any format into one plain form: numbered classes, three splits.

Boxes are x1, y1, x2, y2 in pixels of the stored image with an exclusive corner
(width = x2 - x1). VOC corners are taken as given, without any offset.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data.formats.base import SPLITS, ClassLookup, LabelledImage, read_labelled_folder
from utils.errors import Code, TaskError

CLASS_FILES = ("classes.txt", "labels.txt", "obj.names")


@dataclass(frozen=True)
class SourceImage:
    """One image: its file, boxes float64 [n, 4] (x1, y1, x2, y2 pixels), classes int64 [n]."""

    path: Path
    boxes: np.ndarray
    classes: np.ndarray


@dataclass(frozen=True)
class SourceDataset:
    """A data set: its layout, class names (order = class index), images by split, and remarks.

    `splits` always has the keys train, val and test; each may be empty. `notes` are sentences
    about what was left out or decided.
    """

    layout: str
    class_names: tuple[str, ...]
    splits: Mapping[str, tuple[SourceImage, ...]]
    notes: tuple[str, ...]


def read_source(folder: Path, class_names: Sequence[str] | None = None) -> SourceDataset:
    """Read a VOC folder, a COCO folder or JSON file, or a YOLO folder or data.yaml.

    Class order: `class_names` if given (boxes of other classes are then left out, as the platform
    does); else `classes.txt` beside the data; else the order of the data.yaml or of the COCO
    category ids; for VOC the order of first appearance, annotation files sorted by name.
    A data set without splits is split 70/15/15, and a validation part missing beside a training
    part is cut from it, both by a hash of the file name, so every run splits alike.
    Raises TaskError(DATASET) when nothing readable is found or a file is malformed.
    """
    folder = Path(folder)
    if not folder.exists():
        raise TaskError(Code.DATASET, f"There is no data set at {folder}; give an existing path.")
    wanted = tuple(class_names or _listed_classes(folder))
    found = read_labelled_folder(folder, wanted)
    names = wanted or found.class_names
    if len(set(names)) != len(names):
        raise TaskError(Code.DATASET, f"The class names {list(names)} are not unique.")
    lookup, remarks = ClassLookup(names), Counter(found.remarks)

    def numbered(image: LabelledImage) -> SourceImage:
        labels = [label for label, *_ in image.objects if lookup.index_of(label) is None]
        said = "boxes of the class {!r}, which is not asked for, were left out"
        remarks.update(said.format(label) for label in labels)
        indexed = ((lookup.index_of(label), *corners) for label, *corners in image.objects)
        kept = [row for row in indexed if row[0] is not None]
        rows = np.array(kept, dtype=np.float64).reshape(-1, 5)
        return SourceImage(image.path, rows[:, 1:], rows[:, 0].astype(np.int64))

    images = _complete_splits(found.images, remarks)
    splits = {split: tuple(numbered(image) for image in images[split]) for split in SPLITS}
    if not any(splits.values()):
        raise TaskError(Code.DATASET, "The data set lists no image that exists.")
    notes = tuple(f"{count} × {text}" if count > 1 else text for text, count in remarks.items())
    return SourceDataset(found.format_name, names, splits, notes)


def _listed_classes(folder: Path) -> tuple[str, ...]:
    """Return class names from a list file beside the data, one per line; empty without one."""
    for name in CLASS_FILES:
        if (folder / name).is_file():
            lines = (folder / name).read_text(encoding="utf-8").splitlines()
            return tuple(line.strip() for line in lines if line.strip())
    return ()


def _complete_splits(
    images: Mapping[str, Sequence[LabelledImage]], remarks: Counter[str]
) -> dict[str, list[LabelledImage]]:
    """Return train, val and test, drawn by a hash of the names where the source does not say."""
    splits = {split: list(images.get(split, ())) for split in SPLITS}
    undivided = _shuffled(images.get("", ()))
    if undivided and not any(splits.values()):
        count = round(0.15 * len(undivided))
        first = count or int(len(undivided) > 1)
        remarks["the data set is not split; images were divided 70/15/15 by name"] += 1
        val, rest = undivided[:first], undivided[first:]
        return {"val": val, "test": rest[:count], "train": rest[count:]}
    splits["train"] += undivided
    if len(splits["train"]) > 1 and not splits["val"]:
        shuffled = _shuffled(splits["train"])
        count = round(0.15 * len(shuffled)) or 1
        remarks["there is no validation part; 15 % of the training images became one"] += 1
        splits["val"], splits["train"] = shuffled[:count], shuffled[count:]
    return splits


def _shuffled(images: Iterable[LabelledImage]) -> list[LabelledImage]:
    return sorted(images, key=lambda image: hashlib.sha1(image.path.name.encode()).hexdigest())
