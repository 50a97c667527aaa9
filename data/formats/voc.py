"""Pascal VOC: an XML document for each image.

The platform's corners are inclusive integers, so 1 is added to xmax and ymax; those of other
people's files are taken as given. An index names the image of a document, and its header the size.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path, PurePosixPath
from typing import NamedTuple
from xml.etree.ElementTree import ParseError

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import fromstring

from data.formats.base import (
    MAX_BYTES,
    Annotation,
    AnnotationError,
    AnnotationFile,
    AnnotationFormat,
    ClassLookup,
    FoundDataset,
    Size,
    check_count,
    finite_numbers,
    read_bytes,
    register,
    split_of,
)
from data.index_file import SPLITS, Record
from data.instances import Instances, Row
from data.sources import IMAGE_SUFFIXES, files_under, images_under, is_hidden
from utils.errors import Code, TaskError
from utils.text import EncodingError, decode_text, read_text

SIDES = ("xmin", "ymin", "xmax", "ymax")
ANGLE = "rotate_angle"


class VocObject(NamedTuple):
    """The texts of one `object` as written; `box` by element, None where there is no `bndbox`."""

    name: str
    box: dict[str, str] | None


class VocDocument(NamedTuple):
    """What a document says: its objects, the name of the image and its (height, width)."""

    objects: list[VocObject]
    filename: str = ""
    size: Size | None = None
    is_voc: bool = True


def read_document(content: bytes, path: str) -> VocDocument:
    """Return the `object` elements right below the root of a document, in order.

    Of repeated elements the first counts. Raises AnnotationError for what is no XML, and for
    entities and references to other files.
    """
    try:
        root = fromstring(_decoded(content), forbid_dtd=False)
    except (ParseError, DefusedXmlException, ValueError, LookupError) as error:
        if b"encoding" not in content[:99] or b"utf-8" in content[:99].lower():
            _check_encoding(content, path)
        raise AnnotationError(f"{path}: not a readable XML document ({error})") from None
    objects = []
    for element in root.findall("object"):
        bndbox, box = element.find("bndbox"), None
        if bndbox is not None:
            texts = {side: bndbox.findtext(side) for side in (*SIDES, ANGLE)}
            box = {side: text for side, text in texts.items() if text is not None}
        objects.append(VocObject((element.findtext("name") or "").strip(), box))
    check_count(len(objects), path)
    sides = [root.findtext(f"size/{side}") or "" for side in ("height", "width")]
    size = [int(side) for side in sides if side.strip().isdecimal() and int(side) > 0]
    stated = (size[0], size[1]) if len(size) == 2 else None
    filename = (root.findtext("filename") or "").strip()
    return VocDocument(objects, filename, stated, root.tag == "annotation")


def _check_encoding(content: bytes, path: str) -> None:
    """Raise AnnotationError for bytes that are not in UTF-8 nor marked as another encoding."""
    try:
        decode_text(content, path)
    except EncodingError as error:
        raise AnnotationError(str(error)) from None


def _decoded(content: bytes) -> bytes | str:
    """Return text for a declared encoding of several bytes a character, which expat cannot read."""
    declared = re.match(rb"""\s*<\?xml[^>]*?encoding\s*=\s*["']([\w.:-]+)["']""", content)
    if declared is None or declared[1].decode().lower() in ("utf-8", "utf8", "utf-16", "us-ascii"):
        return content
    text = content.decode(declared[1].decode())
    return text[text.index("?>") + 2 :] if "?>" in text else text


def corners(box: Mapping[str, str], where: str) -> list[float]:
    """Return xmin, ymin, xmax, ymax; AnnotationError names the side that is no number."""
    return finite_numbers([box.get(side, "").strip() for side in SIDES], where, SIDES)


def parse_voc(
    content: bytes, path: str, classes: ClassLookup, *, inclusive: bool = True
) -> Annotation:
    """Return the objects of a document; those without a box or of an unknown class are counted.

    The platform's corners are `inclusive`: xmax and ymax lie on the last pixel.
    """
    rows: list[Row] = []
    unknown: list[str] = []
    rotated = without_box = 0
    document = read_document(content, path)
    for number, (name, box) in enumerate(document.objects, start=1):
        where = f"{path} object {number}"
        if not name:
            raise AnnotationError(f"{where}: it has no name")
        if box is None or (not inclusive and not all(box.get(side) for side in SIDES)):
            without_box += 1
            continue
        index = classes.index_of(name)
        if index is None:
            unknown.append(name)
            continue
        x1, y1, x2, y2 = corners(box, where)
        rows.append((index, x1, y1, x2 + inclusive, y2 + inclusive))
        rotated += finite_numbers([box.get(ANGLE) or "0"], where) != [0]
    return Annotation(
        Instances.from_rows(rows), tuple(unknown), rotated, without_box, document.size
    )


def _open(
    content: bytes, path: str, classes: ClassLookup, *, inclusive: bool = True
) -> AnnotationFile:
    annotation = parse_voc(content, path, classes, inclusive=inclusive)
    return lambda _image, _size: annotation


IMAGE_FOLDERS = ("JPEGImages", "images", "Images", "imgs", "image")
ANNOTATION_FOLDERS = ("Annotations", "annotations", "xml", "xmls", "labels")
OF_LAYOUT = frozenset((*IMAGE_FOLDERS, *ANNOTATION_FOLDERS))


def find_folder(folder: Path, _class_names: Sequence[str]) -> FoundDataset | None:
    """Find XML documents with their images and ImageSets.

    Documents lie in Annotations/ or beside the images (JPEGImages/, images/), in the same folders
    below both; a folder may hold several such folders, as VOCdevkit does. Classes are in the order
    of their first appearance, documents sorted by name.
    """
    if folder.is_file():
        return None
    records: dict[str, list[Record]] = {}
    remarks: Counter[str] = Counter()
    parts = [_Part(root, remarks) for root in _roots(folder)]
    if not any(part.documents for part in parts):
        return None
    for part in parts:
        for split, found in part.splits(split_of(part.root.relative_to(folder).parts)).items():
            records.setdefault(split, []).extend(found)
    names = dict.fromkeys(name for part in parts for name in part.class_names())
    return FoundDataset("pascal-voc", records, tuple(names), remarks)


def _roots(folder: Path) -> list[Path]:
    """Return the folders that hold a VOC data set each: it, or those in it (up to three deep)."""
    roots: dict[Path, None] = {}
    for depth in ("", "*/", "*/*/", "*/*/*/"):
        for path in (path for name in ANNOTATION_FOLDERS for path in folder.glob(depth + name)):
            around = path.parent.relative_to(folder).parts
            apart = not any(is_hidden(part) or part in OF_LAYOUT for part in around)
            if apart and path.is_dir() and files_under(path, (".xml",)):
                roots[path.parent] = None
    return sorted(roots) or [folder]


class _Part:
    """One VOC data set: documents by their path below the folder of documents, without suffix."""

    def __init__(self, root: Path, remarks: Counter[str]) -> None:
        self.root, self._remarks = root, remarks
        self.documents: dict[str, Path] = {}
        self._read: dict[str, VocDocument] = {}
        places = [root / name for name in ANNOTATION_FOLDERS if (root / name).is_dir()]
        for self.home in (*places, root):
            for path in files_under(self.home, (".xml",)):
                self._add(path)
            if self.documents:
                break
        self._images: dict[str, list[Path]] = {}
        for home in self._image_homes():
            for path in images_under(home):
                self._images.setdefault(_key(path, home), []).append(path)

    def _add(self, path: Path) -> None:
        """Read a document; XML of another kind, such as CVAT's own, is passed over."""
        try:
            document = read_document(read_bytes(str(path), MAX_BYTES), str(path))
        except AnnotationError:
            document = VocDocument([])  # told where its image is read
        key = _key(path, self.home)
        if document.is_voc and self.documents.setdefault(key, path) != path:
            raise TaskError(
                Code.DATASET,
                f"{self.documents[key]} and {path} are of one image: keep one of them.",
            )
        if document.is_voc:
            self._read[key] = document

    def _image_homes(self) -> list[Path]:
        """Return the folder of images beside that of documents, else where they can lie."""
        known = [self.root / name for name in IMAGE_FOLDERS if (self.root / name).is_dir()]
        if known or self.home == self.root:
            return known[:1] or [self.root]
        inside = [path for path in sorted(self.root.iterdir()) if path.is_dir()]
        masks = ("Segmentation", "ImageSets")
        return [p for p in inside if not (is_hidden(p.name) or p.name.startswith(masks))]

    def class_names(self) -> list[str]:
        """Return the class of every object, documents sorted by name."""
        return [one.name for read in self._read.values() for one in read.objects if one.name]

    def splits(self, around: str) -> dict[str, list[Record]]:
        """Return images with documents by split; `around` is the split that the folders say."""
        found: dict[str, list[Record]] = {}
        listed = _image_sets(self.root)
        if listed is None:
            listed = {}
            for key in self.documents:
                listed.setdefault(around or split_of(key.split("/")[:-1]), []).append(key)
        for split, keys in listed.items():
            found[split] = []
            for line in keys:
                key = self._listed_key(line)
                if key not in self.documents and split == "test":
                    self._remarks["test images without annotations were left out"] += 1
                    continue
                if key not in self.documents:
                    raise TaskError(
                        Code.DATASET,
                        f"{self.root / 'ImageSets'} lists {key!r} for {split or 'training'}, but "
                        f"{self.home / (key + '.xml')} does not exist.",
                    )
                image = self._image(key)
                if image is None:
                    self._remarks["listed images do not exist and were left out"] += 1
                else:
                    found[split].append(Record(str(image), str(self.documents[key])))
        return found

    def _listed_key(self, line: str) -> str:
        """Return the key of a listed line, without a suffix and the column of a class's list."""
        keys = [_without_suffix(line), _without_suffix(re.sub(r"\s+-?[01]$", "", line))]
        return next((key for key in keys if key in self.documents), keys[-1])

    def _image(self, key: str) -> Path | None:
        """Return the image of a document: of its path and stem, else of the name it states."""
        stated = self._read[key].filename.replace("\\", "/").rpartition("/")[2]
        found = self._images.get(key, [])
        if len(found) > 1:
            named = [path for path in found if path.name == stated]
            found = named or found
        if not found and stated:
            beside = str(PurePosixPath(key).with_name(PurePosixPath(stated).stem or "_"))
            found = [path for path in self._images.get(beside, []) if path.name == stated]
        if len(found) > 1:
            there = " and ".join(str(path) for path in found[:2])
            raise TaskError(
                Code.DATASET,
                f"{self.documents[key]} fits {there}: keep one of them, or name it as filename.",
            )
        return found[0] if found else None


def _key(path: Path, home: Path) -> str:
    """Return the path below a folder without suffix and without folders such as `images`."""
    *folders, name = path.relative_to(home).with_suffix("").parts
    return "/".join([*(one for one in folders if one not in OF_LAYOUT), name])


def _image_sets(folder: Path) -> dict[str, list[str]] | None:
    """Return the listed lines of each split, or None where nothing lists them.

    `train.txt` and so on; else the lists of each class together, as VoTT writes them alone.
    """
    found = {}
    for split, name in (*((s, s) for s in SPLITS), ("", "trainval")):
        path = folder / "ImageSets" / "Main" / f"{name}.txt"
        paths = [path] if path.is_file() else sorted(path.parent.glob(f"*_{name}.txt"))
        if paths and not (name == "trainval" and "train" in found):
            try:
                lines = [line for path in paths for line in read_text(path).splitlines()]
            except (EncodingError, OSError) as error:
                raise TaskError(Code.DATASET, f"{error}.") from None
            found[split] = list(dict.fromkeys(line.strip() for line in lines if line.strip()))
    return found or None


def _without_suffix(line: str) -> str:
    key = line.replace("\\", "/")
    suffix = PurePosixPath(key).suffix
    return key.removesuffix(suffix) if suffix.lower() in IMAGE_SUFFIXES else key


register(AnnotationFormat("voc", _open, starts=(b"<", b"\xff\xfe", b"\xfe\xff")))
register(
    AnnotationFormat(
        "pascal-voc",
        partial(_open, inclusive=False),
        read_folder=find_folder,
        layout="Pascal VOC (XML files in Annotations/, or beside the images)",
    )
)
