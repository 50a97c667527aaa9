"""What annotation readers share: their result, their errors, and the registry of formats.

A module of this package that calls `register` adds a format. Boxes are xyxy in pixels with
exclusive right and bottom edges, as read: `data.read_dataset` clips and cleans them.
"""

from __future__ import annotations

import importlib
import math
import os
import pkgutil
import stat
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from threading import Lock

import numpy as np
import numpy.typing as npt

from data.index_file import Record
from data.instances import Instances

MAX_BYTES = 64 * 2**20
"""Size limit of a file for one image; one for many images may be larger."""
MAX_OBJECTS = 100_000
"""Limit of objects of one image: more would only exhaust time and memory later."""


Size = tuple[int, int]
"""Height, width in pixels."""


class AnnotationError(Exception):
    """An annotation file that cannot be used: one clause with file, line, value and rule."""


@dataclass(frozen=True)
class Annotation:
    """The labelled objects of one image, and what was left out of them."""

    instances: Instances = field(default_factory=lambda: Instances.from_rows(()))
    unknown_classes: tuple[str, ...] = ()
    """The class of each object left out because `class_names` does not hold it."""
    rotated: int = 0
    """Rotated boxes that were taken as upright ones."""
    without_box: int = 0
    size: Size | None = None
    """(height, width) of the image as the annotation states it."""
    crowds: Instances = field(default_factory=lambda: Instances.from_rows(()))
    """Regions of many objects (`iscrowd`): never trained on, ignored in an evaluation."""


class ClassLookup:
    """Class names to indices: the exact name first, then one that differs only in case."""

    def __init__(self, names: Sequence[str]) -> None:
        self.names = tuple(names)
        self._exact = {name: index for index, name in enumerate(self.names)}
        self._folded: dict[str, int] = {}
        for name, index in self._exact.items():
            self._folded.setdefault(name.strip().lower(), index)

    def index_of(self, name: str) -> int | None:
        """Return the index of a class name, or None for an unknown one."""
        name = name.strip()
        return self._exact.get(name, self._folded.get(name.lower()))

    def require(self, index: float, where: str) -> int:
        """Return `index` as an integer; AnnotationError if it is none or out of range."""
        # The range first: a number of any size can be compared, but not made another type.
        if not 0 <= index < len(self.names) or index != int(index):
            shown = f"{index:g}" if isinstance(index, float) else str(index)[:40]
            raise AnnotationError(
                f"{where}: class index {shown} is not a whole number "
                f"from 0 to {len(self.names) - 1} ({len(self.names)} class names)"
            )
        return int(index)


SPLIT_NAMES = {
    **{"train": "train", "training": "train", "test": "test", "testing": "test"},
    **{"val": "val", "valid": "val", "validation": "val"},
}


def split_of(names: Iterable[str]) -> str:
    """Return the split that one of some folder names says, the first; '' where none does."""
    return next((SPLIT_NAMES[n.lower()] for n in names if n.lower() in SPLIT_NAMES), "")


@dataclass(frozen=True)
class FoundDataset:
    """A data set as people keep it: its images and the annotation file of each.

    `format_name` is the format of the annotation files. `records` are by split: train, val, test,
    or '' where the data set is not divided. `class_names` are in the order of the format.
    `remarks` count what was left out or decided.
    """

    format_name: str
    records: Mapping[str, Sequence[Record]]
    class_names: tuple[str, ...]
    remarks: Counter[str]


AnnotationFile = Callable[[str, Size], Annotation]
"""The annotation of an image, by its path and true size, in a file that was read; AnnotationError
if unusable."""
FolderReader = Callable[[Path, Sequence[str]], FoundDataset | None]
"""Finds a data set in a folder (or by the file that describes it), given the class names that the
user listed, if any; None where it is not of this format. TaskError(DATASET) if malformed."""


@dataclass(frozen=True)
class AnnotationFormat:
    """An annotation format.

    `open_file` reads content (bytes, path for messages, classes). A file belongs to the format
    whose `suffix` its name has, or one of whose `starts` it begins with after blanks and a byte
    order mark. With `many_images` one file holds the annotations of many images; it is then parsed
    once. Folders are offered to the formats in rising `folder_rank`; `layout` tells a user what
    such a folder looks like.
    """

    name: str
    open_file: Callable[[bytes, str, ClassLookup], AnnotationFile]
    starts: tuple[bytes, ...] = ()
    suffix: str | None = None
    many_images: bool = False
    read_folder: FolderReader | None = None
    folder_rank: int = 0
    layout: str = ""


FORMATS: dict[str, AnnotationFormat] = {}


def register(annotation_format: AnnotationFormat) -> None:
    """Add a format to the registry."""
    FORMATS[annotation_format.name] = annotation_format


@lru_cache(maxsize=1)
def formats() -> Mapping[str, AnnotationFormat]:
    """Return all formats by name, after importing every module of this package."""
    for module in pkgutil.iter_modules([str(Path(__file__).parent)]):
        importlib.import_module(f"{__package__}.{module.name}")
    return FORMATS


class AnnotationReader:
    """Reads annotation files of one format, or of any format, recognised by content.

    Safe to call from several threads. A file for many images is parsed once and kept.
    """

    def __init__(
        self,
        class_names: Sequence[str],
        format_name: str | None = None,
        wanted: Sequence[str] | None = None,
    ) -> None:
        """Read annotations whose classes are `class_names`; indices count those `wanted`."""
        self._classes = ClassLookup(class_names)
        self._renumbered: npt.NDArray[np.int32] | None = None
        if wanted is not None and tuple(wanted) != self._classes.names:
            found = [ClassLookup(wanted).index_of(name) for name in class_names]
            self._renumbered = np.array([-1 if i is None else i for i in found], np.int32)
        self._formats = formats()
        self._format = None if format_name is None else self._formats[format_name]
        self._suffixes = {one.suffix: one for one in self._formats.values() if one.suffix}
        self._lock = Lock()
        self._shared: dict[str, AnnotationFile | AnnotationError] = {}

    def read(self, path: str, image_path: str, size: Size = (0, 0)) -> Annotation:
        """Return the annotation of an image of `size` in a file; AnnotationError if unusable."""
        annotation = self._read(path, image_path, size)
        if self._renumbered is None:
            return annotation
        classes = self._renumbered[annotation.instances.classes]
        others = annotation.instances.classes[classes < 0]
        instances = replace(annotation.instances, classes=classes).take(classes >= 0)
        unknown = (self._classes.names[index] for index in others)
        crowds = replace(annotation.crowds, classes=self._renumbered[annotation.crowds.classes])
        return replace(
            annotation,
            instances=instances,
            unknown_classes=(*annotation.unknown_classes, *unknown),
            crowds=crowds.take(crowds.classes >= 0),
        )

    def _read(self, path: str, image_path: str, size: Size) -> Annotation:
        opened = self._shared.get(path)
        if opened is None:
            found = self._format or self._suffixes.get(os.path.splitext(path)[1].lower())
            content = b""
            if found is None or not found.many_images:
                content = read_bytes(path, MAX_BYTES)
                found = found or self._recognise(content)
            if not found.many_images:
                return found.open_file(content, path, self._classes)(image_path, size)
            opened = self._open_shared(path, found)
        if isinstance(opened, AnnotationError):
            raise opened
        return opened(image_path, size)

    def _recognise(self, content: bytes) -> AnnotationFormat:
        start = content[:64].removeprefix(b"\xef\xbb\xbf").lstrip()
        known = (one for one in self._formats.values() if start.startswith(one.starts))
        return next(known, self._formats["ark"])

    def _open_shared(self, path: str, found: AnnotationFormat) -> AnnotationFile | AnnotationError:
        with self._lock:
            if path not in self._shared:
                try:
                    self._shared[path] = found.open_file(read_bytes(path), path, self._classes)
                except AnnotationError as error:
                    self._shared[path] = error
            return self._shared[path]


def read_bytes(path: str, limit: int | None = None) -> bytes:
    """Return the content of a regular file; AnnotationError if unreadable or above `limit`."""
    try:
        found = os.stat(path)
        # A pipe or a device may never end.
        if not stat.S_ISREG(found.st_mode):
            raise AnnotationError(f"{path}: not a file")
        with open(path, "rb") as file:
            # A read allocates what it is asked for: no more than the size of the file.
            content = file.read() if limit is None else file.read(min(found.st_size, limit) + 1)
            if limit is not None and len(content) > found.st_size:
                content += file.read(limit + 1 - len(content))
    except OSError as error:
        raise AnnotationError(f"{path}: {error.strerror or 'cannot be read'}") from None
    except ValueError:
        raise AnnotationError(f"{path!r}: no path holds a zero byte") from None
    if limit is not None and len(content) > limit:
        raise AnnotationError(f"{path}: larger than {limit >> 20} MiB, for one image")
    return content


def check_count(count: int, where: str) -> None:
    """Raise AnnotationError for more objects than one image may have."""
    if count > MAX_OBJECTS:
        raise AnnotationError(f"{where}: more than {MAX_OBJECTS} objects in one image")


def finite_numbers(words: Sequence[str], where: str, names: Sequence[str] = ()) -> list[float]:
    """Return words as finite numbers; AnnotationError says where the first is that is none.

    `names` are those of the words, for the message.
    """
    values = []
    for place, word in enumerate(words):
        try:
            value = float(word)
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            name = f" {names[place]}" if names else ""
            raise AnnotationError(f"{where}{name}: {word[:40]!r} is not a number")
        values.append(value)
    return values
