"""Read a labelled data set of any format into one plain form: numbered classes, three splits.

Boxes are x1, y1, x2, y2 in pixels of the upright image with an exclusive corner
(width = x2 - x1). VOC corners are taken as given, without any offset.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from data.dataset_index import DatasetIndex
from data.folders import open_dataset
from data.index_file import SPLITS
from data.instances import Instances


@dataclass(frozen=True)
class SourceImage:
    """One image: its file, boxes [n, 4] (x1, y1, x2, y2 pixels), classes [n], crowd regions."""

    path: Path
    boxes: np.ndarray
    classes: np.ndarray
    crowds: Instances = field(default_factory=Instances.none)


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


def read_source(
    folder: Path,
    class_names: Sequence[str] | None = None,
    *,
    max_bad_fraction: float = 0.5,
    labelled: bool = True,
) -> SourceDataset:
    """Read a data set of any form that `data.folders.open_dataset` knows.

    Images with an unusable file or annotation are left out and named, up to `max_bad_fraction` of
    them. Not `labelled`: the images alone are wanted. Raises TaskError(DATASET).
    """
    data = open_dataset(Path(folder), tuple(class_names or ()), unlabelled=not labelled)
    notes, splits = list(data.notes), {}
    for split in SPLITS:
        if not labelled:
            splits[split] = tuple(_unlabelled(Path(record.image)) for record in data.records[split])
            continue
        if not data.records[split]:
            splits[split] = ()
            continue
        index, report = data.read(
            split, max_bad_fraction=max_bad_fraction, require_boxes=split == "train"
        )
        notes += report.lines()
        splits[split] = tuple(
            SourceImage(Path(path), *_labels_of(index, number))
            for number, path in enumerate(index.paths)
        )
    return SourceDataset(data.format_name, data.class_names, splits, tuple(notes))


def _labels_of(index: DatasetIndex, image: int) -> tuple[np.ndarray, np.ndarray, Instances]:
    return index.boxes_of(image), index.classes_of(image), index.crowds_of(image)


def _unlabelled(path: Path) -> SourceImage:
    return SourceImage(path, np.zeros((0, 4)), np.zeros(0, np.int64))
