"""A labelled data set as people keep it, read into one plain form with numbered classes.

Boxes come out as x1, y1, x2, y2 in pixels of the stored image with an exclusive corner
(width = x2 - x1). VOC corners are taken as given, without any offset.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data.formats.base import (
    SPLITS,
    LabelledFolder,
    LabelledImage,
    read_labelled_folder,
)
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
    labelled = read_labelled_folder(folder, wanted)
    return _assemble(labelled, wanted or labelled.class_names)


def _listed_classes(folder: Path) -> tuple[str, ...]:
    """Class names from a list file beside the data, one per line; empty when there is none."""
    for name in CLASS_FILES:
        if (folder / name).is_file():
            lines = (folder / name).read_text(encoding="utf-8").splitlines()
            return tuple(line.strip() for line in lines if line.strip())
    return ()


def _assemble(labelled: LabelledFolder, names: tuple[str, ...]) -> SourceDataset:
    """Number the classes and complete the splits."""
    if len(set(names)) != len(names):
        raise TaskError(Code.DATASET, f"The class names {list(names)} are not unique.")
    exact = {name: index for index, name in enumerate(names)}
    folded = {name.strip().casefold(): index for index, name in enumerate(names)}
    remarks = Counter(labelled.remarks)

    def number(record: LabelledImage) -> SourceImage:
        rows, classes = [], []
        for label, *corners in record.objects:
            index = exact.get(label, folded.get(label.strip().casefold()))
            if index is None:
                remarks[f"boxes of the class {label!r}, which is not asked for, were left out"] += 1
                continue
            rows.append(corners)
            classes.append(index)
        boxes = np.array(rows, dtype=np.float64).reshape(-1, 4)
        return SourceImage(record.path, boxes, np.array(classes, dtype=np.int64))

    records = _complete_splits(labelled.images, remarks)
    splits = {split: tuple(number(record) for record in records[split]) for split in SPLITS}
    if not any(splits.values()):
        raise TaskError(Code.DATASET, "The data set lists no image that exists.")
    notes = tuple(f"{count} × {text}" if count > 1 else text for text, count in remarks.items())
    return SourceDataset(labelled.format_name, names, splits, notes)


def _complete_splits(
    records: Mapping[str, Sequence[LabelledImage]], remarks: Counter[str]
) -> dict[str, list[LabelledImage]]:
    """Train, val and test lists, drawn by a hash of the names where the source does not say."""
    splits = {split: list(records.get(split, ())) for split in SPLITS}
    loose = _shuffled(records.get("", ()))
    if loose and not any(splits.values()):
        part = round(0.15 * len(loose)) or int(len(loose) > 1)
        rest = loose[part:]
        part_test = round(0.15 * len(loose))
        remarks["the data set is not split; images were divided 70/15/15 by name"] += 1
        return {"val": loose[:part], "test": rest[:part_test], "train": rest[part_test:]}
    splits["train"] += loose
    if len(splits["train"]) > 1 and not splits["val"]:
        drawn = _shuffled(splits["train"])
        part = round(0.15 * len(drawn)) or 1
        remarks["there is no validation part; 15 % of the training images became one"] += 1
        splits["val"], splits["train"] = drawn[:part], drawn[part:]
    return splits


def _shuffled(records: Iterable[LabelledImage]) -> list[LabelledImage]:
    return sorted(records, key=lambda r: hashlib.sha1(r.path.name.encode()).hexdigest())
