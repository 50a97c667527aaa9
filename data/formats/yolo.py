"""Data sets in YOLO's layout: a data.yaml, images, and a text file of boxes for each image."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import yaml

from data.dataset_index import DataReport, DatasetIndex, read_records
from data.formats.base import AnnotationError, Object, Objects
from data.images import ImageError, image_size
from data.index_file import Record
from utils.errors import Code, TaskError
from utils.safe_yaml import load_yaml

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".mpo"})
SPLIT_KEYS: Mapping[str, tuple[str, ...]] = {
    "train": ("train",),
    "val": ("val", "valid"),
    "test": ("test",),
}


@dataclass(frozen=True)
class DataDescription:
    """A data.yaml: class names in order, and per split the folders, lists or images it names.

    `base` is the folder that relative entries start from.
    """

    path: Path
    base: Path
    class_names: tuple[str, ...]
    entries: Mapping[str, tuple[str, ...]]
    offers_download: bool = False


def read_data_yaml(path: Path) -> DataDescription:
    """The description in a data.yaml of v7.0; nothing that it names is downloaded or run.

    `names` is a list or a mapping of numbers; `nc` is not looked at. `path`, the root, may be
    relative to the file or to the working directory. Raises TaskError(DATASET).
    """
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "does not exist"
        raise TaskError(
            Code.DATASET,
            f"{path} {what}: name a data.yaml with names, train and val; a folder of another form "
            "(VOC, COCO) becomes a task with `python -m tools.make_task`.",
        )
    try:
        content = load_yaml(path.read_text(encoding="utf-8", errors="ignore"))
    except (OSError, yaml.YAMLError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise TaskError(Code.DATASET, f"{path} is no readable YAML file ({reason}).") from None
    if not isinstance(content, Mapping) or not content.get("names"):
        raise TaskError(
            Code.DATASET,
            f"{path} is no description of a data set: it must hold names (the classes) and train, "
            "val or test (folders of images, or text files that list them).",
        )
    entries = {split: _entries(path, keys, content) for split, keys in SPLIT_KEYS.items()}
    return DataDescription(
        path, _base(path, content), _names(path, content["names"]), entries, "download" in content
    )


def _names(path: Path, listed: object) -> tuple[str, ...]:
    if isinstance(listed, Mapping):
        try:
            numbers = sorted(int(key) for key in listed)
        except (TypeError, ValueError):
            numbers = []
        if numbers != list(range(len(listed))):
            raise TaskError(
                Code.DATASET, f"the class numbers under names of {path} must be 0, 1, 2 and so on."
            )
        by_number = {int(key): value for key, value in listed.items()}
        listed = [by_number[number] for number in numbers]
    if not isinstance(listed, list):
        raise TaskError(Code.DATASET, f"names of {path} must be a list, or numbers with names.")
    names = tuple(str(name).strip() for name in listed)
    if len(set(names)) != len(names):
        raise TaskError(Code.DATASET, f"The class names {list(names)} of {path} are not unique.")
    return names


def _entries(path: Path, keys: tuple[str, ...], content: Mapping[str, object]) -> tuple[str, ...]:
    listing = next((content[key] for key in keys if content.get(key)), [])
    entries = [listing] if isinstance(listing, str) else listing
    if not isinstance(entries, list) or not all(isinstance(entry, str) for entry in entries):
        raise TaskError(
            Code.DATASET, f"{keys[0]} of {path} must be a folder, a text file, or a list of them."
        )
    return tuple(entries)


def _base(path: Path, content: Mapping[str, object]) -> Path:
    root = str(content.get("path") or "")
    return next((p for p in (path.parent / root, Path(root)) if root and p.is_dir()), path.parent)


def images_of(description: DataDescription, split: str) -> list[Path]:
    """The image files of a split, sorted within each folder; TaskError(DATASET) if it has none."""
    entries = description.entries[split]
    images = [image for entry in entries for image in _images(description, entry)]
    if not images:
        said = f"names no {split} images" if not entries else f"finds no image for {split}"
        raise TaskError(Code.DATASET, f"{description.path} {said}: add or correct the key {split}.")
    return images


def _images(description: DataDescription, entry: str) -> list[Path]:
    base = description.base
    # Exports of annotation services write '../train/images' for a folder that lies beside the YAML.
    for target in (base / entry, base / re.sub(r"^(\.\./)+", "", entry), Path(entry)):
        if target.is_dir():
            return images_under(target)
        if target.is_file() and target.suffix.lower() in IMAGE_SUFFIXES:
            return [target]
        if target.is_file():
            return listed_images(target, base)
    hint = (
        "; the download that it offers is not done: this program fetches nothing and runs nothing "
        "that a data set names, so get the images yourself"
        if description.offers_download
        else ""
    )
    raise TaskError(
        Code.DATASET, f"{description.path} names {entry!r}, which is not below {base}{hint}."
    )


def images_under(folder: Path) -> list[Path]:
    """The image files below a folder, by their suffix, sorted."""
    files = (path for path in folder.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES)
    return sorted(path for path in files if path.is_file())


def listed_images(listing: Path, base: Path) -> list[Path]:
    """The images a text file lists, one a line: './' means beside the file, else below `base`."""
    lines = (line.strip() for line in listing.read_text(encoding="utf-8").splitlines())
    found = []
    for line in lines:
        if line:
            path = (listing.parent if line.startswith("./") else base) / line
            found.append(path if path.exists() or not Path(line).exists() else Path(line))
    return found


def label_of(image: Path) -> Path | None:
    """The label file of an image: its last folder `images` becomes `labels`, or beside it."""
    parts = list(image.with_suffix(".txt").parts)
    if "images" in parts:
        parts[len(parts) - 1 - parts[::-1].index("images")] = "labels"
    places = (Path(*parts), image.with_suffix(".txt"))
    return next((path for path in places if path.is_file()), None)


def parse_yolo_line(line: str, where: str) -> tuple[int, npt.NDArray[np.float64]]:
    """Class index and x1, y1, x2, y2, normalised, of a line `class cx cy w h [confidence]` or of a
    polygon `class x1 y1 x2 y2 x3 y3 ...`; AnnotationError for anything else.
    """
    try:
        index, *values = (float(word) for word in line.split())
    except ValueError:
        raise AnnotationError(f"{where}: {line!r} holds a word, not numbers") from None
    if not all(map(math.isfinite, (index, *values))) or index != int(index):
        raise AnnotationError(f"{where}: {line!r} holds a number that makes no sense")
    if len(values) in (4, 5):
        cx, cy, width, height = values[:4]
        corners = [cx - width / 2, cy - height / 2, cx + width / 2, cy + height / 2]
        return int(index), np.array(corners)
    if len(values) < 6 or len(values) % 2:
        raise AnnotationError(f"{where}: {line!r} is neither a box nor a polygon")
    points = np.array(values).reshape(-1, 2)
    return int(index), np.concatenate([points.min(axis=0), points.max(axis=0)])


class YoloReader:
    """Reads YOLO label files; a class outside the names makes a file unusable."""

    def __init__(self, class_names: tuple[str, ...]) -> None:
        self._names = class_names

    def read(self, path: str, image_path: str) -> Objects:
        """The objects of an image, in its pixels; AnnotationError if the file is unusable."""
        try:
            height, width = image_size(image_path)
            text = Path(path).read_text(encoding="utf-8")
        except (ImageError, OSError, UnicodeDecodeError) as error:
            raise AnnotationError(f"{path}: cannot be read ({error})") from None
        objects = Objects()
        for number, line in enumerate(text.splitlines(), start=1):
            if not line.strip():
                continue
            index, corners = parse_yolo_line(line, f"{path}:{number}")
            if not 0 <= index < len(self._names):
                raise AnnotationError(
                    f"{path}:{number}: class {index} is outside 0..{len(self._names) - 1}"
                )
            x1, y1, x2, y2 = (corners * (width, height, width, height)).tolist()
            objects.rows.append(Object(index, x1, y1, x2, y2))
        return objects


def read_yolo_split(
    description: DataDescription,
    split: str,
    *,
    max_bad_fraction: float,
    require_boxes: bool = True,
) -> tuple[DatasetIndex, DataReport]:
    """A split as arrays; an image without a label file has no objects. See `read_dataset`."""
    records = []
    for image in images_of(description, split):
        label = label_of(image)
        records.append(Record(str(image), None if label is None else str(label)))
    return read_records(
        records,
        YoloReader(description.class_names),
        description.class_names,
        source=f"{description.path} ({split})",
        max_bad_fraction=max_bad_fraction,
        require_boxes=require_boxes,
    )
