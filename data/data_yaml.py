"""data.yaml of v7.0: class names, and the images of each split of a data set in YOLO's layout."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml

from data.sources import IMAGE_SUFFIXES, images_under, listed_images, with_slashes
from utils.errors import Code, TaskError
from utils.safe_yaml import load_yaml
from utils.text import EncodingError, read_text

SPLIT_KEYS = {"train": ("train",), "val": ("val", "valid", "validation"), "test": ("test",)}


ABSENT = frozenset({"", "~", "null", "Null", "NULL"})
"""What YAML reads as nothing."""


@dataclass(frozen=True)
class DataDescription:
    """A data.yaml: class names in order, and per split the folders, lists or images it names.

    `base` is the folder that relative entries start from. `keypoints`: label lines are a box and
    key points (`kpt_shape`), as in pose data sets.
    """

    path: Path
    base: Path
    class_names: tuple[str, ...]
    entries: Mapping[str, tuple[str, ...]]
    offers_download: bool = False
    keypoints: bool = False


def read_data_yaml(path: Path) -> DataDescription:
    """Read a data.yaml; nothing that it names is downloaded or run.

    `names` is a list or a mapping from numbers, each name as it is written (`no` is a name); `nc`
    is ignored. `path`, the root, may be relative to the file or to the working directory. Raises
    TaskError(DATASET).
    """
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "does not exist"
        raise TaskError(Code.DATASET, f"{path} {what}: name a data.yaml with names, train and val.")
    content = load_description(path)
    if content is None:
        raise TaskError(
            Code.DATASET,
            f"{path} is no description of a data set: it must hold names (the classes) and train, "
            "val or test (folders of images, or text files that list them).",
        )
    entries = {split: _entries(path, keys, content) for split, keys in SPLIT_KEYS.items()}
    return DataDescription(
        path,
        _base(path, content),
        _names(path, content["names"]),
        entries,
        "download" in content,
        "kpt_shape" in content,
    )


def load_description(path: Path) -> Mapping[str, object] | None:
    """Return the content of a YAML file, scalars as text; None where it names no classes.

    Raises TaskError(DATASET) for what is no YAML.
    """
    try:
        content = load_yaml(read_text(path), words=True)
    except (OSError, yaml.YAMLError, ValueError) as error:
        reason = " ".join(str(error).split())[:300]
        raise TaskError(Code.DATASET, f"{path} is no readable YAML file ({reason}).") from None
    return content if isinstance(content, Mapping) and content.get("names") else None


def _names(path: Path, listed: object) -> tuple[str, ...]:
    if isinstance(listed, Mapping):
        try:
            by_number = {int(key): name for key, name in listed.items()}
        except (TypeError, ValueError):
            by_number = {}
        if sorted(by_number) != list(range(len(listed))):
            raise TaskError(
                Code.DATASET, f"the class numbers under names of {path} must be 0, 1, 2 and so on."
            )
        listed = [by_number[number] for number in sorted(by_number)]
    if not isinstance(listed, list) or not all(isinstance(name, str) for name in listed):
        raise TaskError(Code.DATASET, f"names of {path} must be a list, or numbers with names.")
    names = tuple(name.strip() for name in listed)
    if not all(names):
        raise TaskError(Code.DATASET, f"names of {path} holds an empty class name: name them all.")
    if len(set(names)) != len(names):
        raise TaskError(Code.DATASET, f"The class names {list(names)} of {path} are not unique.")
    return names


def _entries(path: Path, keys: tuple[str, ...], content: Mapping[str, object]) -> tuple[str, ...]:
    given = (content.get(key) for key in keys)
    listing = next((one for one in given if one and str(one) not in ABSENT), [])
    entries = [listing] if isinstance(listing, str) else listing
    if not isinstance(entries, list) or not all(isinstance(entry, str) for entry in entries):
        raise TaskError(
            Code.DATASET, f"{keys[0]} of {path} must be a folder, a text file, or a list of them."
        )
    return tuple(entries)


def _base(path: Path, content: Mapping[str, object]) -> Path:
    root = with_slashes(str(content.get("path") or ""))
    if root in ABSENT:
        return path.parent
    return next((p for p in (path.parent / root, Path(root)) if p.is_dir()), path.parent)


def images_of(description: DataDescription, split: str) -> list[Path]:
    """Return the image files of a split, sorted within a folder; TaskError(DATASET) without any."""
    entries = description.entries[split]
    images = [image for entry in entries for image in _images(description, entry)]
    if not images:
        said = f"names no {split} images" if not entries else f"finds no image for {split}"
        raise TaskError(Code.DATASET, f"{description.path} {said}: add or correct the key {split}.")
    return images


def place_of(description: DataDescription, entry: str) -> Path | None:
    """Return the folder or file that an entry names, or None if it is not there."""
    base = description.base
    for text in dict.fromkeys((entry, with_slashes(entry))):
        # Exports of annotation services write '../train/images' for a folder beside the YAML.
        for place in (base / text, base / re.sub(r"^(\.\./)+", "", text), Path(text)):
            if place.exists():
                return place
    return None


def _images(description: DataDescription, entry: str) -> list[Path]:
    place = place_of(description, entry)
    if place is None:
        hint = ""
        if description.offers_download:
            hint = (
                "; the download that it offers is not done: this program fetches nothing and runs "
                "nothing that a data set names, so get the images yourself"
            )
        raise TaskError(
            Code.DATASET,
            f"{description.path} names {entry!r}, which is not below {description.base}{hint}.",
        )
    if place.is_dir():
        return images_under(place)
    if place.suffix.lower() in IMAGE_SUFFIXES:
        return [place]
    try:
        return listed_images(place, description.base)
    except (OSError, EncodingError) as error:
        raise TaskError(Code.DATASET, f"{place} is no list of images ({error}).") from None
