"""The three layouts people keep labels in (VOC, COCO, YOLO), each read to records with names.

Boxes are x1, y1, x2, y2 in pixels of the stored image; VOC corners are taken as given.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree.ElementTree import Element, ParseError

import numpy as np
import yaml
from defusedxml import DefusedXmlException
from defusedxml.ElementTree import parse as parse_xml

from data.data_yaml import SPLIT_KEYS, images_of, read_data_yaml
from data.formats.base import AnnotationError
from data.formats.yolo import label_of, parse_line
from data.images import ImageError, image_size
from data.sources import images_under
from utils.errors import Code, TaskError

SPLITS = ("train", "val", "test")
LabelledBox = tuple[str, float, float, float, float]


@dataclass(frozen=True)
class Record:
    """One image before class names became numbers."""

    path: Path
    boxes: tuple[LabelledBox, ...]


@dataclass(frozen=True)
class Reading:
    """What a reader found: records by split ('' = not split), names in order, counted remarks."""

    records: dict[str, list[Record]]
    class_names: tuple[str, ...]
    remarks: Counter[str]


# VOC


def read_voc(folder: Path) -> Reading:
    """Read Annotations/*.xml with their images; classes in order of first appearance."""
    remarks: Counter[str] = Counter()
    annotations = {path.stem: path for path in sorted((folder / "Annotations").glob("*.xml"))}
    images = {p.stem: p for p in images_under(folder) if p.parent.name != "SegmentationClass"}
    parsed = {stem: _parse_voc(path, remarks) for stem, path in annotations.items()}
    first_seen = dict.fromkeys(box[0] for boxes in parsed.values() for box in boxes)
    records: dict[str, list[Record]] = {}
    for split, stems in _voc_splits(folder, list(annotations)).items():
        records[split] = []
        for stem in stems:
            if stem not in parsed:
                raise TaskError(
                    Code.DATASET,
                    f"{folder / 'ImageSets'} lists {stem!r} for {split or 'training'}, but "
                    f"{folder / 'Annotations' / (stem + '.xml')} does not exist.",
                )
            if stem not in images:
                remarks["listed images do not exist and were left out"] += 1
                continue
            records[split].append(Record(images[stem], parsed[stem]))
    return Reading(records, tuple(first_seen), remarks)


def _voc_splits(folder: Path, every_stem: list[str]) -> dict[str, list[str]]:
    found = {}
    for split, name in (*((s, s) for s in SPLITS), ("", "trainval")):
        path = folder / "ImageSets" / "Main" / f"{name}.txt"
        if path.is_file() and not (name == "trainval" and "train" in found):
            lines = path.read_text(encoding="utf-8").splitlines()
            # per-class lists of the original VOC carry a second column of -1, 0 or 1
            found[split] = [re.sub(r"\s+-?[01]\s*$", "", x).strip() for x in lines if x.strip()]
    return found or {"": every_stem}


def _parse_voc(path: Path, remarks: Counter[str]) -> tuple[LabelledBox, ...]:
    try:
        root = parse_xml(path).getroot()
    except (ParseError, DefusedXmlException, OSError) as error:
        raise TaskError(Code.DATASET, f"{path} is no readable VOC file: {error}.") from error
    boxes = []
    for item in root.iter("object"):
        try:
            x1, y1, x2, y2 = (_number(item, key) for key in ("xmin", "ymin", "xmax", "ymax"))
        except ValueError:
            remarks["VOC objects without a complete bndbox were left out"] += 1
            continue
        boxes.append(((item.findtext("name") or "").strip(), x1, y1, x2, y2))
    return tuple(boxes)


def _number(item: Element, key: str) -> float:
    return float(item.findtext(f"bndbox/{key}") or "")


# COCO


def coco_files(folder: Path) -> dict[Path, dict]:
    """JSON files of a folder (or the one given) that hold COCO labels, parsed."""
    if folder.is_file():
        paths = [folder] if folder.suffix == ".json" else []
    else:
        paths = sorted({*folder.glob("*.json"), *folder.glob("*/*.json")})
    found = {}
    for path in paths:
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except (ValueError, OSError) as error:
            raise TaskError(Code.DATASET, f"{path} is no readable JSON file: {error}.") from error
        if isinstance(content, dict) and {"images", "annotations", "categories"} <= content.keys():
            found[path] = content
    return found


def read_coco(folder: Path, files: Mapping[Path, dict]) -> Reading:
    """Read parsed COCO files; classes in the order of their ids."""
    remarks: Counter[str] = Counter()
    root = folder.parent if folder.is_file() else folder
    by_name = {path.name: path for path in images_under(root)}
    records: dict[str, list[Record]] = {}
    names: dict[int, str] = {}
    for path, content in files.items():
        try:
            names.update({int(c["id"]): str(c["name"]) for c in content["categories"]})
            boxes = _coco_boxes(content["annotations"], names, remarks)
            target = records.setdefault(_split_of(path, root), [])
            for image in content["images"]:
                file = _coco_image(root, path, str(image["file_name"]), by_name)
                if file is None:
                    remarks["listed images do not exist and were left out"] += 1
                else:
                    target.append(Record(file, tuple(boxes.get(image["id"], ()))))
        except (KeyError, TypeError, ValueError) as error:
            raise TaskError(Code.DATASET, f"{path} is no valid COCO file: {error!r}.") from error
    return Reading(records, tuple(names[key] for key in sorted(names)), remarks)


def _coco_boxes(
    annotations: Iterable[dict], names: Mapping[int, str], remarks: Counter[str]
) -> dict[int, list[LabelledBox]]:
    boxes: dict[int, list[LabelledBox]] = {}
    for item in annotations:
        if item.get("iscrowd"):
            remarks["COCO crowd regions were left out"] += 1
            continue
        x, y, width, height = (float(value) for value in item["bbox"])
        row = (names[int(item["category_id"])], x, y, x + width, y + height)
        boxes.setdefault(item["image_id"], []).append(row)
    return boxes


def _split_of(path: Path, root: Path) -> str:
    """The split a file belongs to, told from its own name, else from its folder's; '' if open."""
    parts = [path.stem] if path.parent == root else [path.stem, path.parent.name]
    for part in parts:
        for split in SPLITS:
            if re.search(rf"(?<![a-z]){split}", part.lower()):
                return split
    return ""


def _coco_image(root: Path, file: Path, name: str, by_name: Mapping[str, Path]) -> Path | None:
    for candidate in (file.parent / name, root / name, root / "images" / name):
        if candidate.is_file():
            return candidate
    return by_name.get(Path(name).name)


# YOLO


def yolo_description(folder: Path) -> Path | None:
    """The YAML file that names splits and classes, if there is one."""
    candidates = [folder] if folder.is_file() else sorted(folder.glob("*.y*ml"))
    candidates = [path for path in candidates if path.suffix in (".yaml", ".yml")]
    for path in sorted(candidates, key=lambda p: p.stem not in ("data", "dataset")):
        try:
            content = yaml.safe_load(path.read_text(encoding="utf-8"))
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise TaskError(Code.DATASET, f"{path} is no readable YAML file: {error}.") from error
        if isinstance(content, dict) and "names" in content and ("train" in content):
            return path
    return None


def read_yolo_description(path: Path) -> Reading:
    """Read the images and label files that a data.yaml names; classes in its order."""
    description = read_data_yaml(path)
    remarks: Counter[str] = Counter()
    records = {
        split: [
            _yolo_record(image, description.class_names, remarks)
            for image in (images_of(description, split) if description.entries[split] else ())
        ]
        for split in SPLITS
    }
    return Reading(records, description.class_names, remarks)


def read_yolo_folders(folder: Path, class_names: tuple[str, ...]) -> Reading:
    """Read images/ and labels/ folders without a description; classes named or class_<n>."""
    records: dict[str, list[Path]] = {}
    for split, folders in SPLIT_KEYS.items():
        places = [p for f in folders for p in (folder / "images" / f, folder / f / "images")]
        records[split] = [image for p in places if p.is_dir() for image in images_under(p)]
    if not any(records.values()):
        records = {"": images_under(folder)}
    remarks: Counter[str] = Counter()
    read = {
        split: [_yolo_record(image, class_names, remarks) for image in images]
        for split, images in records.items()
    }
    seen = {box[0] for rows in read.values() for record in rows for box in record.boxes}
    names = class_names or tuple(sorted(seen, key=lambda name: int(name.removeprefix("class_"))))
    return Reading(read, names, remarks)


def _yolo_record(image: Path, names: Sequence[str], remarks: Counter[str]) -> Record:
    label = label_of(image)
    if label is None:
        return Record(image, ())
    try:
        height, width = image_size(image)
    except (ImageError, OSError):
        remarks["images that cannot be read came without boxes"] += 1
        return Record(image, ())
    boxes = []
    for number, line in enumerate(label.read_text(encoding="utf-8").splitlines(), start=1):
        if not line.strip():
            continue
        try:
            index, corners = parse_line(line, f"{label}:{number}")
        except AnnotationError as error:
            raise TaskError(Code.DATASET, f"{error}.") from None
        if names and not 0 <= index < len(names):
            raise TaskError(
                Code.DATASET,
                f"{label}:{number}: class {index} is outside 0..{len(names) - 1}, the classes "
                f"being {list(names)}.",
            )
        x1, y1, x2, y2 = corners * np.array([width, height, width, height])
        boxes.append((names[index] if names else f"class_{index}", x1, y1, x2, y2))
    return Record(image, tuple(boxes))
