"""YOLO: a text file for each image, a line `class cx cy w h [confidence]` or a polygon an object.

Coordinates are fractions of the image's size.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import yaml

from data.data_yaml import SPLIT_KEYS, images_of, read_data_yaml
from data.formats.base import (
    SPLITS,
    Annotation,
    AnnotationError,
    AnnotationFile,
    AnnotationFormat,
    ClassLookup,
    LabelledFolder,
    LabelledImage,
    NamedBox,
    check_count,
    register,
)
from data.images import ImageError, image_size
from data.instances import Instances, Row
from data.sources import images_under
from utils.errors import Code, TaskError
from utils.safe_yaml import load_yaml


def label_of(image: Path) -> Path | None:
    """Return an image's label file: its last folder `images` becomes `labels`, or beside it."""
    parts = list(image.with_suffix(".txt").parts)
    if "images" in parts:
        parts[len(parts) - 1 - parts[::-1].index("images")] = "labels"
    places = (Path(*parts), image.with_suffix(".txt"))
    return next((path for path in places if path.is_file()), None)


def parse_line(line: str, where: str) -> tuple[int, tuple[float, float, float, float]]:
    """Return class index and x1, y1, x2, y2 (fractions) of a line `class cx cy w h [confidence]`
    or of a polygon `class x1 y1 x2 y2 x3 y3 ...`; AnnotationError for anything else.
    """
    try:
        index, *values = (float(word) for word in line.split())
    except ValueError:
        raise AnnotationError(f"{where}: {line!r} holds a word, not numbers") from None
    if not all(map(math.isfinite, (index, *values))) or index != int(index):
        raise AnnotationError(f"{where}: {line!r} holds a number that makes no sense")
    if len(values) in (4, 5):
        cx, cy, width, height = values[:4]
        return int(index), (cx - width / 2, cy - height / 2, cx + width / 2, cy + height / 2)
    if len(values) < 6 or len(values) % 2:
        raise AnnotationError(f"{where}: {line!r} is neither a box nor a polygon")
    x, y = values[::2], values[1::2]
    return int(index), (min(x), min(y), max(x), max(y))


def parse_yolo(text: str, path: str, size_hw: tuple[int, int], class_count: int) -> list[Row]:
    """Return the objects of a label file in pixels of an image of `size_hw` (height, width).

    AnnotationError for a class index outside 0..class_count - 1; with 0 any index is taken.
    """
    height, width = size_hw
    rows: list[Row] = []
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        index, (x1, y1, x2, y2) = parse_line(line, f"{path}:{number}")
        if index < 0 or 0 < class_count <= index:
            raise AnnotationError(f"{path}:{number}: class {index} is outside 0..{class_count - 1}")
        rows.append((index, x1 * width, y1 * height, x2 * width, y2 * height))
    check_count(len(rows), path)
    return rows


def _open(content: bytes, path: str, classes: ClassLookup) -> AnnotationFile:
    def annotation_of(image_path: str) -> Annotation:
        try:
            size, text = image_size(image_path), content.decode()
        except (ImageError, UnicodeDecodeError) as error:
            raise AnnotationError(f"{path}: cannot be read ({error})") from None
        return Annotation(Instances.from_rows(parse_yolo(text, path, size, len(classes.names))))

    return annotation_of


def read_described_folder(folder: Path, _class_names: Sequence[str]) -> LabelledFolder | None:
    """Read the images and label files that a data.yaml names, with its classes."""
    path = _description(folder)
    if path is None:
        return None
    description = read_data_yaml(path)
    images = {
        split: images_of(description, split) if description.entries[split] else []
        for split in SPLITS
    }
    return _labelled(images, description.class_names)


def read_plain_folder(folder: Path, class_names: Sequence[str]) -> LabelledFolder | None:
    """Read images/ and labels/ without a data.yaml; classes as given, or class_0, class_1 ..."""
    if not ((folder / "labels").is_dir() or any(folder.glob("*/labels"))):
        return None
    images: dict[str, list[Path]] = {}
    for split, names in SPLIT_KEYS.items():
        places = [p for f in names for p in (folder / "images" / f, folder / f / "images")]
        images[split] = [image for p in places if p.is_dir() for image in images_under(p)]
    return _labelled(images if any(images.values()) else {"": images_under(folder)}, class_names)


def _description(folder: Path) -> Path | None:
    """Return the YAML file that names splits and classes, if there is one."""
    candidates = [folder] if folder.is_file() else sorted(folder.glob("*.y*ml"))
    candidates = [path for path in candidates if path.suffix in (".yaml", ".yml")]
    for path in sorted(candidates, key=lambda p: p.stem not in ("data", "dataset")):
        try:
            content = load_yaml(path.read_text(encoding="utf-8"))
        except (yaml.YAMLError, ValueError) as error:
            raise TaskError(Code.DATASET, f"{path} is no readable YAML file: {error}.") from error
        if isinstance(content, dict) and "names" in content and "train" in content:
            return path
    return None


def _labelled(images: Mapping[str, Sequence[Path]], names: Sequence[str]) -> LabelledFolder:
    remarks: Counter[str] = Counter()
    labelled = {
        split: [LabelledImage(path, _named_boxes(path, names, remarks)) for path in paths]
        for split, paths in images.items()
    }
    found = {box[0] for rows in labelled.values() for image in rows for box in image.objects}
    in_order = names or sorted(found, key=lambda name: int(name.removeprefix("class_")))
    return LabelledFolder("yolo", labelled, tuple(in_order), remarks)


def _named_boxes(image: Path, names: Sequence[str], remarks: Counter[str]) -> tuple[NamedBox, ...]:
    label = label_of(image)
    if label is None:
        return ()
    try:
        size = image_size(image)
    except ImageError:
        remarks["images that cannot be read came without boxes"] += 1
        return ()
    try:
        rows = parse_yolo(label.read_text(encoding="utf-8"), str(label), size, len(names))
    except AnnotationError as error:
        raise TaskError(Code.DATASET, f"{error}.") from None
    return tuple(
        (names[int(index)] if names else f"class_{index:.0f}", x1, y1, x2, y2)
        for index, x1, y1, x2, y2 in rows
    )


register(AnnotationFormat("yolo", _open, read_folder=read_described_folder, folder_rank=1))
register(AnnotationFormat("yolo-plain", _open, read_folder=read_plain_folder, folder_rank=3))
