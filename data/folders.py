"""Open a labelled data set of any form that people keep: a folder, or a file that describes it."""

from __future__ import annotations

import filecmp
import hashlib
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data.data_yaml import read_data_yaml
from data.dataset_index import DatasetIndex
from data.formats.base import AnnotationReader, FoundDataset, formats
from data.images import content_mark
from data.index_file import SPLITS, Record
from data.read_dataset import read_records, read_yolo_split
from data.report import EXAMPLES, DataReport
from data.sources import images_under, is_hidden
from utils.errors import Code, TaskError
from utils.progress import Progress
from utils.text import EncodingError, read_text

CLASS_FILES = (
    "classes.txt",
    "labels.txt",
    "obj.names",
    "labels/classes.txt",
    "predefined_classes.txt",
    "_darknet.labels",
)
CLASS_FILES_OF_PARTS = (
    *("labels/*/classes.txt", "*/labels/classes.txt", "*/classes.txt", "*/_darknet.labels"),
)
DEEPEST = 3
"""Folders that each hold nothing but the next one, as archives unpack, before the data set."""


@dataclass(frozen=True)
class LabelledData:
    """A labelled data set: its form, class names, and by split the images with annotation files.

    Annotations count or name `own_names`; `class_names` are those that are asked for. `records` has
    the keys train, val and test. `notes` are sentences about what was left out or decided.
    """

    path: Path
    format_name: str
    own_names: tuple[str, ...]
    class_names: tuple[str, ...]
    records: Mapping[str, Sequence[Record]]
    notes: tuple[str, ...]

    def read(
        self,
        split: str,
        *,
        max_bad_fraction: float,
        require_boxes: bool = True,
        progress: Progress | None = None,
    ) -> tuple[DatasetIndex, DataReport]:
        """Read a split as `read_dataset` does; TaskError(DATASET) where it has no images."""
        if not self.records[split]:
            raise TaskError(Code.DATASET, f"{self.path} holds no image for {split}: add some.")
        return read_records(
            self.records[split],
            AnnotationReader(self.own_names, self.format_name, self.class_names),
            self.class_names,
            source=f"{self.path} ({split})",
            max_bad_fraction=max_bad_fraction,
            require_boxes=require_boxes,
            progress=progress,
            upright=True,
        )


def open_dataset(
    path: Path, class_names: Sequence[str] = (), *, unlabelled: bool = False
) -> LabelledData:
    """Open a folder of a known form, or the file that describes a data set.

    Class order: `class_names` if given (boxes of other classes are then left out, as the platform
    does); else a list beside the data (`classes.txt` and so on); else the order of the format.
    A data set without splits is divided 70/15/15, and a validation part missing beside a training
    part is cut from it, both by a hash of the file name, so every run divides alike. With
    `unlabelled` a folder of images alone is taken too. TaskError(DATASET) where no form fits, with
    the forms and the places that were looked for, or where a file is malformed.
    """
    if not path.exists():
        raise TaskError(Code.DATASET, f"There is no data set at {path}; give an existing path.")
    found, listed = _find(path, tuple(class_names))
    if found is None and unlabelled:
        found = _images_alone(path)
    if found is None:
        raise _unknown_form(path)
    names = tuple(class_names) or listed or found.class_names
    if len(set(names)) != len(names):
        raise TaskError(Code.DATASET, f"The class names {list(names)} of {path} are not unique.")
    remarks = Counter(found.remarks)
    records = _complete_splits(found.records, remarks)
    if not any(records.values()):
        raise TaskError(Code.DATASET, f"{path} lists no image that exists.")
    notes = tuple(f"{count} × {text}" if count > 1 else text for text, count in remarks.items())
    return LabelledData(path, found.format_name, found.class_names, names, records, notes)


def read_splits(
    path: Path, splits: Sequence[str], *, max_bad_fraction: float
) -> list[tuple[DatasetIndex, DataReport]]:
    """Read splits of a data set: of a data.yaml as v7.0 does, or of any form `open_dataset` knows.

    Only a folder is divided where it has no splits; a data.yaml must name those that are read. Of
    equal pictures with different labels in a split one is kept.
    """
    if path.suffix.lower() in (".yaml", ".yml") and not path.is_dir():
        description = read_data_yaml(path)
        read = [
            read_yolo_split(description, split, max_bad_fraction=max_bad_fraction)
            for split in splits
        ]
    else:
        data = open_dataset(path)
        read = [data.read(split, max_bad_fraction=max_bad_fraction) for split in splits]
        read[0][1].notes = data.notes
    return [(_without_contradictions(index, report), report) for index, report in read]


def _without_contradictions(index: DatasetIndex, report: DataReport) -> DatasetIndex:
    """Keep one of equal pictures with different labels: the first that has any; `report` says so.

    Files of one length, image size and `content_mark` are compared whole.
    """
    alike: dict[tuple[int, ...], list[int]] = {}
    for number, (path, size) in enumerate(zip(index.paths, index.sizes.tolist(), strict=True)):
        with suppress(OSError):  # an image that is gone is told where it is decoded
            alike.setdefault((os.path.getsize(path), *size), []).append(number)
    by_mark: dict[str, list[int]] = {}
    for group in alike.values():
        for number in group if len(group) > 1 else ():
            by_mark.setdefault(content_mark(index.paths[number]), []).append(number)
    dropped: dict[int, int] = {}
    for group in by_mark.values():
        kept = max(group, key=lambda number: len(index.boxes_of(number)) > 0)
        for number in group:
            if not _labelled_alike(index, kept, number) and filecmp.cmp(
                index.paths[kept], index.paths[number], shallow=False
            ):
                dropped[number] = kept
    if not dropped:
        return index
    told = [
        f"{index.paths[left]} ({len(index.boxes_of(left))} boxes) is the same picture as "
        f"{index.paths[kept]} ({len(index.boxes_of(kept))} boxes) and was left out"
        for left, kept in list(dropped.items())[:EXAMPLES]
    ]
    count = f"{len(dropped)} × equal pictures with other labels than the first that has any"
    report.notes = (*report.notes, count, *told)
    index = index.subset([number for number in range(len(index)) if number not in dropped])
    report.count(index)
    return index


def _labelled_alike(index: DatasetIndex, one: int, other: int) -> bool:
    return np.array_equal(index.boxes_of(one), index.boxes_of(other)) and np.array_equal(
        index.classes_of(one), index.classes_of(other)
    )


def _find(path: Path, class_names: tuple[str, ...]) -> tuple[FoundDataset | None, tuple[str, ...]]:
    """Return the data set, and the class names that a list beside it has."""
    in_order = sorted(formats().values(), key=lambda one: one.folder_rank)
    for _ in range(DEEPEST):
        listed = _listed_classes(path)
        names = class_names or listed or _classes_of_parts(path)
        for one in in_order:
            found = one.read_folder and one.read_folder(path, names)
            if found:
                return found, listed
        inside = _visible(path)
        if len(inside) != 1 or not inside[0].is_dir():
            break
        path = inside[0]
    return None, ()


def _visible(path: Path) -> list[Path]:
    return [one for one in path.iterdir() if not is_hidden(one.name)] if path.is_dir() else []


def _images_alone(path: Path) -> FoundDataset | None:
    records = [Record(str(image), None) for image in images_under(path)] if path.is_dir() else []
    # As one split: there is nothing to train on, so none is held back.
    return FoundDataset("yolo", {"test": records}, (), Counter()) if records else None


def _unknown_form(path: Path) -> TaskError:
    forms = "; ".join(one.layout for one in formats().values() if one.layout)
    there = ", ".join(sorted(one.name for one in _visible(path))[:5]) or "nothing"
    looked = ", ".join(str(path / name) for name in ("data.yaml", "Annotations", "labels"))
    what = f"{path} holds {there}" if path.is_dir() else f"{path} is a file"
    return TaskError(
        Code.DATASET,
        f"{path} is no data set that can be read ({what}; looked for {looked}, and so on): "
        f"expected one of: {forms}.",
    )


def _listed_classes(path: Path) -> tuple[str, ...]:
    """Return class names from a list file beside the data; empty without one."""
    files = (path / name for name in CLASS_FILES)
    return next((_names_in(file) for file in files if file.is_file()), ())


def _classes_of_parts(path: Path) -> tuple[str, ...]:
    """Return the class names that lists in the folders of splits agree on; empty without one.

    They name numbers only, where nothing else does. TaskError(DATASET) where two differ.
    """
    files = (file for pattern in CLASS_FILES_OF_PARTS for file in sorted(path.glob(pattern)))
    first: Path | None = None
    names: tuple[str, ...] = ()
    for file in files if path.is_dir() else ():
        if any(map(is_hidden, file.relative_to(path).parts[:-1])):
            continue
        found = _names_in(file)
        if first is not None and found != names:
            raise TaskError(
                Code.DATASET,
                f"{first} and {file} list different classes: put one classes.txt into {path}.",
            )
        first, names = file, found
    return names


def _names_in(path: Path) -> tuple[str, ...]:
    try:
        lines = read_text(path).splitlines()
    except (EncodingError, OSError) as error:
        raise TaskError(Code.DATASET, f"{error}.") from None
    return tuple(line.strip() for line in lines if line.strip())


def _complete_splits(
    images: Mapping[str, Sequence[Record]], remarks: Counter[str]
) -> dict[str, list[Record]]:
    """Return train, val and test, drawn by a hash of the names where the source does not say."""
    splits = {split: list(images.get(split, ())) for split in SPLITS}
    undivided = _shuffled(images.get("", ()))
    if undivided and not any(splits.values()):
        count = round(0.15 * len(undivided))
        first = count or int(len(undivided) > 1)
        remarks["the data set is not split; images were divided 70/15/15 by name"] += 1
        val, rest = undivided[:first], undivided[first:]
        return {"train": rest[count:], "val": val, "test": rest[:count]}
    splits["train"] += undivided
    if len(splits["train"]) > 1 and not splits["val"]:
        shuffled = _shuffled(splits["train"])
        count = round(0.15 * len(shuffled)) or 1
        remarks["there is no validation part; 15 % of the training images became one"] += 1
        splits["val"], splits["train"] = shuffled[:count], shuffled[count:]
    return splits


def _shuffled(records: Iterable[Record]) -> list[Record]:
    def digest(record: Record) -> str:
        return hashlib.sha1(os.fsencode(os.path.basename(record.image))).hexdigest()

    return sorted(records, key=digest)
