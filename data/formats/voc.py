"""Pascal VOC: an XML document for each image.

Corners are inclusive integers, so 1 is added to xmax and ymax. The document's own `filename` and
`size` are ignored: the index names the image, and its header the size.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple
from xml.etree.ElementTree import ParseError

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import fromstring

from data.formats.base import (
    MAX_BYTES,
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
    finite_numbers,
    read_bytes,
    register,
)
from data.instances import Instances, Row
from data.sources import images_under
from utils.errors import Code, TaskError

SIDES = ("xmin", "ymin", "xmax", "ymax")
ANGLE = "rotate_angle"


class VocObject(NamedTuple):
    """The texts of one `object` as written; `box` by element, None where there is no `bndbox`."""

    name: str
    box: dict[str, str] | None


def voc_objects(content: bytes, path: str) -> list[VocObject]:
    """Return the `object` elements right below the root of a document, in order.

    Of repeated elements the first counts. Raises AnnotationError for what is no XML, and for
    entities and references to other files.
    """
    try:
        root = fromstring(content, forbid_dtd=False)
    except (ParseError, DefusedXmlException, ValueError, LookupError) as error:
        raise AnnotationError(f"{path}: not a readable XML document ({error})") from None
    objects = []
    for element in root.findall("object"):
        bndbox, box = element.find("bndbox"), None
        if bndbox is not None:
            texts = {side: bndbox.findtext(side) for side in (*SIDES, ANGLE)}
            box = {side: text for side, text in texts.items() if text is not None}
        objects.append(VocObject((element.findtext("name") or "").strip(), box))
    check_count(len(objects), path)
    return objects


def corners(box: Mapping[str, str], where: str) -> list[float]:
    """Return xmin, ymin, xmax, ymax; AnnotationError names the side that is no number."""
    return finite_numbers([box.get(side, "").strip() for side in SIDES], where, SIDES)


def parse_voc(content: bytes, path: str, classes: ClassLookup) -> Annotation:
    """Return the objects of a document; those without a box or of an unknown class are counted."""
    rows: list[Row] = []
    unknown: list[str] = []
    rotated = without_box = 0
    for number, (name, box) in enumerate(voc_objects(content, path), start=1):
        where = f"{path} object {number}"
        if not name:
            raise AnnotationError(f"{where}: it has no name")
        if box is None:
            without_box += 1
            continue
        index = classes.index_of(name)
        if index is None:
            unknown.append(name)
            continue
        x1, y1, x2, y2 = corners(box, where)
        rows.append((index, x1, y1, x2 + 1, y2 + 1))
        rotated += finite_numbers([box.get(ANGLE) or "0"], where) != [0]
    return Annotation(Instances.from_rows(rows), tuple(unknown), rotated, without_box)


def _open(content: bytes, path: str, classes: ClassLookup) -> AnnotationFile:
    annotation = parse_voc(content, path, classes)
    return lambda _image: annotation


def read_folder(folder: Path, _class_names: Sequence[str]) -> LabelledFolder | None:
    """Read Annotations/*.xml with their images and ImageSets; corners are taken as given.

    Classes are in the order of their first appearance, files sorted by name.
    """
    if not (folder / "Annotations").is_dir():
        return None
    remarks: Counter[str] = Counter()
    annotations = {path.stem: path for path in sorted((folder / "Annotations").glob("*.xml"))}
    images = {p.stem: p for p in images_under(folder) if p.parent.name != "SegmentationClass"}
    objects = {stem: _named_boxes(path, remarks) for stem, path in annotations.items()}
    names = dict.fromkeys(box[0] for boxes in objects.values() for box in boxes)
    found: dict[str, list[LabelledImage]] = {}
    for split, stems in _image_sets(folder, list(annotations)).items():
        found[split] = []
        for stem in stems:
            if stem not in objects:
                raise TaskError(
                    Code.DATASET,
                    f"{folder / 'ImageSets'} lists {stem!r} for {split or 'training'}, but "
                    f"{folder / 'Annotations' / (stem + '.xml')} does not exist.",
                )
            if stem not in images:
                remarks["listed images do not exist and were left out"] += 1
                continue
            found[split].append(LabelledImage(images[stem], objects[stem]))
    return LabelledFolder("voc", found, tuple(names), remarks)


def _image_sets(folder: Path, every_stem: list[str]) -> dict[str, list[str]]:
    found = {}
    for split, name in (*((s, s) for s in SPLITS), ("", "trainval")):
        path = folder / "ImageSets" / "Main" / f"{name}.txt"
        if path.is_file() and not (name == "trainval" and "train" in found):
            lines = path.read_text(encoding="utf-8").splitlines()
            # Per-class lists of the original VOC carry a second column of -1, 0 or 1.
            found[split] = [re.sub(r"\s+-?[01]\s*$", "", x).strip() for x in lines if x.strip()]
    return found or {"": every_stem}


def _named_boxes(path: Path, remarks: Counter[str]) -> tuple[NamedBox, ...]:
    try:
        objects = voc_objects(read_bytes(str(path), MAX_BYTES), str(path))
    except AnnotationError as error:
        raise TaskError(Code.DATASET, f"{error}.") from None
    boxes = []
    for number, (name, box) in enumerate(objects, start=1):
        try:
            x1, y1, x2, y2 = corners(box or {}, f"{path} object {number}")
        except AnnotationError:
            remarks["VOC objects without a complete bndbox were left out"] += 1
            continue
        boxes.append((name, x1, y1, x2, y2))
    return tuple(boxes)


register(
    AnnotationFormat("voc", _open, starts=(b"<", b"\xff\xfe", b"\xfe\xff"), read_folder=read_folder)
)
