"""Index and annotation files of a data set to compact arrays, with an account of what was bad."""

from __future__ import annotations

import os
import time
from array import array
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import chain, islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from data.clean_boxes import clean_boxes
from data.formats.base import AnnotationError, AnnotationReader, Objects, Reader
from data.images import ImageError, image_size, read_image
from data.index_cache import LEAST, KeptReading, key_of, load_reading, save_reading
from data.index_file import Record, read_index
from data.report import EXAMPLES, DataReport
from utils.errors import Code, TaskError
from utils.progress import Progress

SLAB, CHUNK = 4096, 64
"""Records in hand at once, and of these by one thread; the first chunk shows how fast files are."""


@dataclass(frozen=True)
class DatasetIndex:
    """A data set as arrays: cheap to slice, to shard and to send to worker processes.

    paths: n image files. sizes: int32 [n, 2], (height, width) of the stored pixel grid.
    boxes: float32 [m, 4], xyxy in pixels of that grid, inside it, never without area.
    classes: int32 [m]. offsets: int64 [n + 1]; image i owns boxes[offsets[i]:offsets[i + 1]].
    """

    paths: tuple[str, ...]
    sizes: npt.NDArray[np.int32]
    boxes: npt.NDArray[np.float32]
    classes: npt.NDArray[np.int32]
    offsets: npt.NDArray[np.int64]
    class_names: tuple[str, ...]

    @classmethod
    def build(
        cls,
        paths: Sequence[str],
        sizes: npt.ArrayLike,
        boxes: npt.ArrayLike,
        classes: npt.ArrayLike,
        counts: npt.ArrayLike,
        class_names: Sequence[str],
    ) -> DatasetIndex:
        """From boxes in the order of the images and the number of boxes of each image [n]."""
        per_image = np.asarray(counts, np.int64).reshape(-1)
        index = cls(
            paths=tuple(paths),
            sizes=np.asarray(sizes, np.int32).reshape(-1, 2),
            boxes=np.asarray(boxes, np.float32).reshape(-1, 4),
            classes=np.asarray(classes, np.int32).reshape(-1),
            offsets=np.concatenate([np.zeros(1, np.int64), np.cumsum(per_image)]),
            class_names=tuple(class_names),
        )
        assert len(index.paths) == len(index.sizes) == len(per_image)
        assert len(index.boxes) == len(index.classes) == index.offsets[-1]
        return index

    def __len__(self) -> int:
        """The number of images."""
        return len(self.paths)

    def boxes_of(self, image: int) -> npt.NDArray[np.float32]:
        """Boxes [k, 4] of one image; k is 0 for a background image."""
        return self.boxes[self.offsets[image] : self.offsets[image + 1]]

    def classes_of(self, image: int) -> npt.NDArray[np.int32]:
        """Class indices [k] of one image's boxes."""
        return self.classes[self.offsets[image] : self.offsets[image + 1]]

    def counts(self) -> npt.NDArray[np.int64]:
        """The number of boxes of each class, [number of classes]."""
        return np.bincount(self.classes, minlength=len(self.class_names)).astype(np.int64)

    def subset(self, images: Sequence[int] | npt.NDArray[np.int64]) -> DatasetIndex:
        """The data set of some images, in the order given."""
        chosen = np.asarray(images, np.int64).reshape(-1)
        counts = np.diff(self.offsets)[chosen]
        starts = np.repeat(self.offsets[chosen] - (np.cumsum(counts) - counts), counts)
        rows = starts + np.arange(len(starts))
        return DatasetIndex.build(
            [self.paths[image] for image in chosen],
            self.sizes[chosen],
            self.boxes[rows],
            self.classes[rows],
            counts,
            self.class_names,
        )

    def single_class(self) -> DatasetIndex:
        """The data set with all classes as one, named "item" as in v7.0; a single one stays."""
        if len(self.class_names) == 1:
            return self
        return replace(self, classes=np.zeros_like(self.classes), class_names=("item",))

    def only(self, classes: Sequence[int]) -> DatasetIndex:
        """The same images with the boxes of some classes; class indices keep their meaning."""
        kept = np.isin(self.classes, np.asarray(classes, np.int64))
        owners = np.repeat(np.arange(len(self)), np.diff(self.offsets))[kept]
        return DatasetIndex.build(
            self.paths,
            self.sizes,
            self.boxes[kept],
            self.classes[kept],
            np.bincount(owners, minlength=len(self)),
            self.class_names,
        )


class _Outcome(NamedTuple):
    size: tuple[int, int] | None
    objects: Objects
    image_fault: str | None
    annotation_fault: str | None


def _examine(record: Record, reader: Reader) -> _Outcome:
    try:
        size = image_size(record.image)
    except ImageError as error:
        return _Outcome(None, Objects(), str(error), None)
    if record.annotation is None:
        return _Outcome(size, Objects(), None, None)
    try:
        objects = reader.read(record.annotation, record.image)
    except AnnotationError as error:
        return _Outcome(size, Objects(), None, str(error))
    return _Outcome(size, objects, None, None)


def _examine_all(
    records: Sequence[Record], reader: Reader, progress: Progress | None
) -> Iterator[tuple[Record, _Outcome]]:
    threads = min(16, 4 + (os.cpu_count() or 1))
    remaining = iter(records)
    done = 0

    def examine(chunk: Sequence[Record]) -> list[_Outcome]:
        return [_examine(record, reader) for record in chunk]

    with ThreadPoolExecutor(threads) as pool:
        # In slabs, so that a million records do not become a million waiting futures.
        while slab := list(islice(remaining, SLAB)):
            started, computing = time.perf_counter(), time.thread_time()
            first = examine(slab[:CHUNK])
            waits = _waits(time.perf_counter() - started, time.thread_time() - computing)
            rest = [slab[start : start + CHUNK] for start in range(CHUNK, len(slab), CHUNK)]
            outcomes = pool.map(examine, rest) if waits else map(examine, rest)
            yield from zip(slab, chain(first, chain.from_iterable(outcomes)), strict=True)
            done += len(slab)
            if progress is not None:
                progress.update(done, len(records))


def _waits(seconds: float, computing: float) -> bool:
    """Whether files are waited for: then threads pay; else they take turns, at twice the cost."""
    return seconds > 2 * computing


def read_dataset(
    index_file: Path,
    class_names: Sequence[str],
    *,
    root: Path,
    max_bad_fraction: float,
    require_boxes: bool = True,
    progress: Progress | None = None,
) -> tuple[DatasetIndex, DataReport]:
    """A data set from its index file, in one pass over images (headers only) and annotations.

    An unusable image or annotation file, a class index out of range included, takes the image
    out of the data set and is named and counted. Boxes are clipped to the image; those without
    area, repeated ones and those of classes not in `class_names` are left out and counted, their
    image stays. Raises TaskError(DATASET) when nothing usable is left, when more than
    `max_bad_fraction` of the images is unusable, or, with `require_boxes`, when no box is left;
    TaskError(IMAGE_FORMAT) when there are images but not one of them can be read and decoded.
    """
    return read_records(
        read_index(Path(index_file), root),
        AnnotationReader(class_names),
        class_names,
        source=str(index_file),
        max_bad_fraction=max_bad_fraction,
        require_boxes=require_boxes,
        progress=progress,
    )


def read_records(
    records: Sequence[Record],
    reader: Reader,
    class_names: Sequence[str],
    *,
    source: str,
    max_bad_fraction: float,
    require_boxes: bool = True,
    progress: Progress | None = None,
) -> tuple[DatasetIndex, DataReport]:
    """As `read_dataset`, for records that are known and annotations of any kind.

    `source` names the data set in messages.
    """
    report = DataReport(source, listed=len(records))
    unique = list({record.image: record for record in reversed(records)}.values())[::-1]
    report.duplicate_images = len(records) - len(unique)
    key = _cache_key(unique, reader, class_names)
    reading = load_reading(key) if key else None
    if reading is None:
        reading = _read(unique, reader, report, max_bad_fraction, progress)
        if key and not report.bad_images.count + report.bad_annotations.count:
            save_reading(key, reading)
    elif progress is not None:
        progress.update(1, 1)
    paths = reading.paths or [record.image for record in unique]
    _refuse_if_none_decodes(paths, report)
    reading.tell(report)
    boxes = reading.boxes
    if require_boxes and not len(boxes):
        raise TaskError(Code.DATASET, _why_no_boxes(report, class_names))
    index = DatasetIndex.build(
        paths, reading.sizes, boxes, reading.classes, reading.per_image, class_names
    )
    return index, report


def _cache_key(records: Sequence[Record], reader: Reader, class_names: Sequence[str]) -> str | None:
    """What tells the reading of these files from any other; None where it is not worth keeping."""
    if len(records) < LEAST:
        return None
    kind = f"{type(reader).__module__}.{type(reader).__qualname__}"
    files = chain.from_iterable((record.image, record.annotation) for record in records)
    return key_of(files, kind, *class_names)


def _read(
    records: Sequence[Record],
    reader: Reader,
    report: DataReport,
    max_bad_fraction: float,
    progress: Progress | None,
) -> KeptReading:
    """The usable images with their boxes; `report` gets what is wrong with the others."""
    paths: list[str] = []
    sizes, rows, counts = array("i"), array("d"), array("q")
    for record, outcome in _examine_all(records, reader, progress):
        if outcome.size is None:
            report.bad_images.add(str(outcome.image_fault))
            report.missing_images += not os.path.isfile(record.image)
        elif outcome.annotation_fault is not None:
            report.bad_annotations.add(outcome.annotation_fault)
        else:
            paths.append(record.image)
            sizes.extend(outcome.size)
            counts.append(len(outcome.objects.rows))
            _append(rows, report, outcome.objects)
    _refuse_if_too_bad(report, len(records), len(paths), max_bad_fraction)
    _refuse_if_none_decodes(paths, report)
    sizes_array = np.array(sizes, np.int32).reshape(-1, 2)
    owners = np.repeat(np.arange(len(paths)), np.array(counts, np.int64))
    table = np.frombuffer(rows, np.float64).reshape(-1, 5)
    clean = clean_boxes(table, owners, sizes_array, report)
    return KeptReading.of(
        report,
        paths=paths,
        sizes=sizes_array,
        boxes=clean.boxes,
        classes=clean.classes,
        per_image=np.bincount(clean.owners, minlength=len(paths)),
    )


def _append(rows: array[float], report: DataReport, objects: Objects) -> None:
    for row in objects.rows:
        rows.extend(row)
    report.rotated += objects.rotated
    report.without_area += objects.without_box
    report.unknown_classes.update(objects.unknown_classes)


def _refuse_if_too_bad(
    report: DataReport, listed: int, usable: int, max_bad_fraction: float
) -> None:
    bad = report.bad_images.count + report.bad_annotations.count
    if usable and bad <= max_bad_fraction * listed:
        return
    first = "; ".join(report.bad_images.examples[:1] + report.bad_annotations.examples[:1])
    if report.bad_images.count == listed and report.missing_images < listed:
        raise TaskError(
            Code.IMAGE_FORMAT,
            f"none of the {listed} images of {report.index_file} can be read, for example {first}; "
            "check that they are JPEG, PNG or BMP files.",
        )
    limit = "" if not usable else f" (max_bad_fraction allows {max_bad_fraction:g})"
    raise TaskError(
        Code.DATASET,
        f"{bad} of the {listed} images of {report.index_file} are unusable{limit}, for example "
        f"{first}; mend or remove them.",
    )


def _refuse_if_none_decodes(paths: Sequence[str], report: DataReport) -> None:
    """A header may be whole where the rest is not; of a sound data set one image is decoded."""
    for path in paths:
        try:
            read_image(path)
        except ImageError as error:
            fault = error
        else:
            return
    raise TaskError(
        Code.IMAGE_FORMAT,
        f"none of the {len(paths)} images of {report.index_file} can be decoded, for example "
        f"{fault}; check that they are whole.",
    )


def _why_no_boxes(report: DataReport, class_names: Iterable[str]) -> str:
    unknown = ", ".join(name for name, _ in report.unknown_classes.most_common(EXAMPLES))
    if unknown:
        return (
            f"no object of {report.index_file} is of a class to be trained: the annotations hold "
            f"{unknown}, class_names holds {', '.join(class_names)}; make them agree."
        )
    return (
        f"the {report.kept} usable images of {report.index_file} hold no object; "
        "label some of them, or choose other classes."
    )
