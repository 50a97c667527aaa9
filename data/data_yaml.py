"""data.yaml of v7.0: class names, and the images of each split of a data set in YOLO's layout."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml

from data.sources import IMAGE_SUFFIXES, images_under, listed_images
from utils.errors import Code, TaskError
from utils.safe_yaml import load_yaml

SPLIT_KEYS = {"train": ("train",), "val": ("val", "valid"), "test": ("test",)}


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
    """Read a data.yaml; nothing that it names is downloaded or run.

    `names` is a list or a mapping from numbers; `nc` is ignored. `path`, the root, may be
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
            by_number = {int(key): name for key, name in listed.items()}
        except (TypeError, ValueError):
            by_number = {}
        if sorted(by_number) != list(range(len(listed))):
            raise TaskError(
                Code.DATASET, f"the class numbers under names of {path} must be 0, 1, 2 and so on."
            )
        listed = [by_number[number] for number in sorted(by_number)]
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
    """Return the image files of a split, sorted within a folder; TaskError(DATASET) without any."""
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
