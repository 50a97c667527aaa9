"""YOLO: a text file for each image, a line `class cx cy w h [confidence]` or a polygon an object.

Coordinates are fractions of the image's size.
"""

from __future__ import annotations

import math
import os
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import partial
from itertools import combinations
from pathlib import Path

from data.data_yaml import (
    SPLIT_KEYS,
    DataDescription,
    images_of,
    load_description,
    place_of,
    read_data_yaml,
)
from data.formats.base import (
    Annotation,
    AnnotationError,
    AnnotationFile,
    AnnotationFormat,
    ClassLookup,
    FoundDataset,
    Size,
    check_count,
    register,
    split_of,
)
from data.index_file import Record
from data.instances import Instances, Row
from data.sources import files_under, images_under, is_hidden
from utils.errors import Code, TaskError
from utils.text import EncodingError, decode_text, read_text

TOLERANCE = 0.01
"""Beyond 0 and 1 by rounding: more of it is no fraction of an image."""


MOST_KEYPOINTS = 23
"""Points of a line that may be keypoints, the box's two among them; a hand has 21."""
Point = tuple[float, float]


def label_of(image: Path) -> Path | None:
    """Return an image's label file: its last folder `images` becomes `labels`, or beside it."""
    parts = list(image.with_suffix(".txt").parts)
    if "images" in parts:
        parts[len(parts) - 1 - parts[::-1].index("images")] = "labels"
    places = (Path(*parts), image.with_suffix(".txt"))
    return next((path for path in places if path.is_file()), None)


def records_of(images: Iterable[Path]) -> list[Record]:
    """Return images with their label files; one without has no objects."""
    labelled = ((image, label_of(image)) for image in images)
    return [Record(str(image), None if label is None else str(label)) for image, label in labelled]


def parse_line(
    line: str, where: str, *, keypoints: bool = False
) -> tuple[int, tuple[float, float, float, float]]:
    """Return class index and x1, y1, x2, y2 (fractions) of a line `class cx cy w h [confidence]`
    or of a polygon `class x1 y1 x2 y2 x3 y3 ...`; AnnotationError for anything else.

    With `keypoints` the points after the box are left out; without, a line that looks like a box
    with its keypoints is refused, since it would be read as a polygon.
    """
    try:
        index, *values = (float(word) for word in line.split())
    except ValueError:
        raise AnnotationError(f"{where}: {line[:80]!r} holds a word, not numbers") from None
    if not all(map(math.isfinite, (index, *values))) or index != int(index):
        raise AnnotationError(f"{where}: {line[:80]!r} holds a number that makes no sense")
    if not keypoints and _are_keypoints(values):
        raise AnnotationError(
            f"{where}: a box and keypoints, not a box or a polygon; a data.yaml with kpt_shape "
            "says so, or leave the keypoints out"
        )
    if len(values) in (4, 5) or (keypoints and len(values) > 5):
        cx, cy, width, height = _fractions(values[:4], line, where)
        return int(index), (cx - width / 2, cy - height / 2, cx + width / 2, cy + height / 2)
    if len(values) < 6 or len(values) % 2:
        raise AnnotationError(f"{where}: {line[:80]!r} is neither a box nor a polygon")
    values = _fractions(values, line, where)
    x, y = values[::2], values[1::2]
    return int(index), (min(x), min(y), max(x), max(y))


def _fractions(values: list[float], line: str, where: str) -> list[float]:
    if min(values) < -TOLERANCE or max(values) > 1 + TOLERANCE:
        raise AnnotationError(
            f"{where}: {line[:80]!r} is not in fractions of the image's size (0 to 1); "
            "pixels are divided by its width and height"
        )
    return values


def _are_keypoints(values: list[float]) -> bool:
    """Return whether at least two points follow a box and lie in it, or are -1 for not seen.

    Most small polygons look so too, any points near the first one: the width and height of a box,
    read as a second vertex, must lie away from the others, or make an outline that crosses itself.
    """
    for columns in (2, 3):  # x, y, and perhaps how visible
        points = values[4:]
        if len(points) < 2 * columns or len(points) % columns:
            continue
        if columns == 3 and any(v not in (-1, 0, 1, 2) for v in points[2::3]):
            continue
        (cx, cy, width, height), seen = values[:4], [(values[0], values[1])]
        for x, y in zip(points[::columns], points[1::columns], strict=True):
            if x < 0 or (columns == 3 and (x, y) == (0, 0)):
                continue
            if abs(x - cx) > 0.55 * width or abs(y - cy) > 0.55 * height:
                break
            seen.append((x, y))
        else:
            away = any(
                value < 2 * min(one) - max(one) or value > 2 * max(one) - min(one)
                for value, one in zip((width, height), zip(*seen, strict=True), strict=True)
            )
            odd = away or _crosses_itself([seen[0], (width, height), *seen[1:]])
            return (len(seen) > 2 and odd) or any(x < 0 for x in points[::columns])
    return False


def _crosses_itself(outline: list[Point]) -> bool:
    """Return whether two edges of an outline cross; of many vertices (no keypoints) it is False."""
    edges = list(zip(outline, [*outline[1:], outline[0]], strict=True))
    pairs = combinations(edges if len(edges) <= MOST_KEYPOINTS else (), 2)
    return any(
        _side(a, b, c) * _side(a, b, d) < 0 and _side(c, d, a) * _side(c, d, b) < 0
        for (a, b), (c, d) in pairs
    )


def _side(a: Point, b: Point, c: Point) -> float:
    """Return a number whose sign is the side of the line through a and b that c lies on."""
    return (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])


def parse_yolo(
    text: str, path: str, size: Size, class_count: int, *, keypoints: bool = False
) -> list[Row]:
    """Return the objects of a label file in pixels of an image of `size` (height, width).

    AnnotationError for a class index outside 0..class_count - 1; with 0 any index is taken.
    """
    height, width = size
    rows: list[Row] = []
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        index, (x1, y1, x2, y2) = parse_line(line, f"{path}:{number}", keypoints=keypoints)
        if index < 0 or 0 < class_count <= index:
            raise AnnotationError(f"{path}:{number}: class {index} is outside 0..{class_count - 1}")
        rows.append((index, x1 * width, y1 * height, x2 * width, y2 * height))
    check_count(len(rows), path)
    return rows


def _open(
    content: bytes, path: str, classes: ClassLookup, *, keypoints: bool = False
) -> AnnotationFile:
    try:
        text = decode_text(content, path)
    except EncodingError as error:
        raise AnnotationError(str(error)) from None

    def annotation_of(_image: str, size: Size) -> Annotation:
        rows = parse_yolo(text, path, size, len(classes.names), keypoints=keypoints)
        return Annotation(Instances.from_rows(rows))

    return annotation_of


def annotation_format(description: DataDescription) -> str:
    """Return the name of the format of a data.yaml's label files."""
    return "yolo-pose" if description.keypoints else "yolo"


def find_described(folder: Path, _class_names: Sequence[str]) -> FoundDataset | None:
    """Find the images and label files that a data.yaml names, with its classes."""
    remarks = Counter[str]()
    path = _description(folder, remarks)
    if path is None:
        return None
    description = read_data_yaml(path)
    records: dict[str, list[Record]] = {}
    for split, entries in description.entries.items():
        gone = [entry for entry in entries if place_of(description, entry) is None]
        if split == "test" and entries and len(gone) == len(entries):
            # Roboflow names a test part also where there is none.
            remarks[f"the test part {entries[0]!r} of {path.name} is not there"] += 1
        elif entries:
            records[split] = records_of(images_of(description, split))
    return FoundDataset(annotation_format(description), records, description.class_names, remarks)


def _description(folder: Path, remarks: Counter[str]) -> Path | None:
    """Return the YAML file that names splits and classes, if there is one; `data.yaml` first."""
    if folder.is_file():
        return folder if folder.suffix.lower() in (".yaml", ".yml") else None
    refused: TaskError | None = None
    found: list[Path] = []
    paths = files_under(folder, (".yaml", ".yml"), depth=1)
    for path in sorted(paths, key=lambda path: path.stem not in ("data", "dataset")):
        try:
            content = load_description(path)
        except TaskError as error:
            if path.stem in ("data", "dataset"):
                refused = error
            continue
        if content is not None and "train" in content:
            found.append(path)
    if refused is not None and not found:
        raise refused
    if len(found) > 1:
        remarks[f"{found[0].name} describes the data set, {found[1].name} was passed over"] += 1
    return next(iter(found), None)


def find_darknet(folder: Path, _class_names: Sequence[str]) -> FoundDataset | None:
    """Find a data set of Darknet's form, as CVAT exports YOLO 1.1.

    `obj.data` names the class list and the lists of images (whose paths may begin with a folder
    `data` that is the data set's own); label files lie beside the images.
    """
    if folder.is_file():
        path, folder = folder, folder.parent
    else:
        path = folder / "obj.data"
    if path.suffix != ".data" or not path.is_file():
        return None
    try:
        pairs = re.findall(r"^\s*(\w+)\s*=\s*(.*?)\s*$", read_text(path), re.MULTILINE)
        named = {key: value for key, value in pairs if value}
        names = _lines(_below(folder, named.get("names", "obj.names")))
        records = {}
        for split, keys in SPLIT_KEYS.items():
            listing = next((named[key] for key in keys if key in named), None)
            if listing is not None:
                lines = _lines(_below(folder, listing), escape=True)
                records[split] = records_of(_below(folder, line) for line in lines)
    except (OSError, EncodingError) as error:
        raise TaskError(Code.DATASET, f"{path}: what it names cannot be read ({error}).") from None
    return FoundDataset("yolo", records, tuple(names), Counter())


def _below(folder: Path, text: str) -> Path:
    text = text.replace("\\", "/")
    places = (folder / text, folder / text.removeprefix("data/"))
    return next((place for place in places if place.exists()), places[-1])


def _lines(path: Path, *, escape: bool = False) -> list[str]:
    return [line.strip() for line in read_text(path, escape=escape).splitlines() if line.strip()]


def find_plain(folder: Path, class_names: Sequence[str]) -> FoundDataset | None:
    """Find images/ and labels/ without a data.yaml; classes as given, or class_0, class_1 ...

    Both may lie up to two folders deep. A folder train, val (valid, validation) or test above an
    image, inside images/ or around it, is its split.
    """
    if folder.is_file() or not _folders_called("labels", folder):
        return None
    places = _folders_called("images", folder) or [folder]
    images = dict.fromkeys(image for place in places for image in images_under(place))
    return _numbered(folder, images, class_names)


def _folders_called(name: str, folder: Path) -> list[Path]:
    """Return the folders of a name up to two deep, each once however it is linked."""
    found: dict[str, Path] = {}
    for path in (
        path for depth in ("", "*/", "*/*/") for path in sorted(folder.glob(depth + name))
    ):
        if path.is_dir() and not any(map(is_hidden, path.relative_to(folder).parts)):
            found.setdefault(os.path.realpath(path), path)
    return list(found.values())


def find_beside(folder: Path, class_names: Sequence[str]) -> FoundDataset | None:
    """Find images with label files beside them, as LabelImg saves them."""
    images = images_under(folder) if folder.is_dir() else []
    labels = [path for image in images if (path := image.with_suffix(".txt")).is_file()]
    try:
        for label in labels[:1]:
            parse_yolo(read_text(label), str(label), (1, 1), len(class_names))
    except (AnnotationError, EncodingError, OSError):
        return None
    return _numbered(folder, images, class_names) if labels else None


def _numbered(folder: Path, images: Iterable[Path], names: Sequence[str]) -> FoundDataset | None:
    """Return images with label files by the split that a folder says; None without any label."""
    records: dict[str, list[Record]] = {}
    for record in records_of(images):
        split = split_of(Path(record.image).relative_to(folder).parts[:-1])
        records.setdefault(split, []).append(record)
    if not any(record.annotation for part in records.values() for record in part):
        return None
    remarks: Counter[str] = Counter()
    if len(records) > 1 and (left := len(records.pop("", ()))):
        remarks["images that lie in no folder of a split were left out"] += left
    if not names:
        highest = -1
        for record in (record for part in records.values() for record in part):
            try:
                text = read_text(Path(record.annotation)) if record.annotation else ""
                rows = parse_yolo(text, str(record.annotation), (1, 1), 0)
            except (AnnotationError, EncodingError, OSError):
                continue  # named where the image is left out
            highest = max([highest, *(int(row[0]) for row in rows)])
        names = [f"class_{index}" for index in range(highest + 1)]
        remarks["no file lists the classes (data.yaml, classes.txt); they are called class_N"] += 1
    return FoundDataset("yolo", records, tuple(names), remarks)


register(
    AnnotationFormat(
        "yolo",
        _open,
        read_folder=find_described,
        folder_rank=1,
        layout="YOLO (a data.yaml with names, train and val)",
    )
)
register(AnnotationFormat("yolo-pose", partial(_open, keypoints=True)))
register(
    AnnotationFormat(
        "yolo-darknet",
        _open,
        read_folder=find_darknet,
        folder_rank=1,
        layout="YOLO 1.1 of CVAT (obj.data)",
    )
)
register(
    AnnotationFormat(
        "yolo-plain",
        _open,
        read_folder=find_plain,
        folder_rank=3,
        layout="images/ with labels/ and classes.txt",
    )
)
register(
    AnnotationFormat(
        "yolo-beside",
        _open,
        read_folder=find_beside,
        folder_rank=9,
        layout="images with YOLO label files beside them",
    )
)
