"""Read the index and annotation files of a data set into arrays, and report what was bad."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain, islice
from pathlib import Path

import numpy as np
import numpy.typing as npt

from data.data_yaml import DataDescription, images_of
from data.dataset_index import DatasetIndex
from data.formats.base import Annotation, AnnotationError, AnnotationReader
from data.formats.yolo import annotation_format, records_of
from data.images import ImageError, ImageHeader, image_header, read_image
from data.index_file import Record, read_index
from data.instances import Instances
from data.report import EXAMPLES, DataReport
from utils.cpus import available_cpus
from utils.errors import Code, TaskError
from utils.progress import Progress, progress_bar

log = logging.getLogger(__name__)

_Outcome = tuple[ImageHeader, Annotation] | ImageError | AnnotationError
"""An image's header and annotation, or the fault of either."""
SLAB, CHUNK = 4096, 64
"""Records in hand at once, and of these by one thread; the first chunk shows how fast files are."""


def read_dataset(
    index_file: Path,
    class_names: Sequence[str],
    *,
    root: Path,
    max_bad_fraction: float,
    progress: Progress | None = None,
) -> tuple[DatasetIndex, DataReport]:
    """Read a data set from its index file, in one pass over image headers and annotations.

    An unusable image or annotation file, a class index out of range included, takes the image
    out of the data set and is named and counted. Boxes are clipped to the image; those without
    area, repeated ones and those of classes not in `class_names` are left out and counted, their
    image stays. Raises TaskError(DATASET) when no usable image or no box is left, or more than
    `max_bad_fraction` of the images is unusable; TaskError(IMAGE_FORMAT) when there are images but
    not one of them can be read and decoded.
    """
    return read_records(
        read_index(Path(index_file), root),
        AnnotationReader(class_names),
        class_names,
        source=str(index_file),
        max_bad_fraction=max_bad_fraction,
        progress=progress,
    )


def read_yolo_split(
    description: DataDescription, split: str, *, max_bad_fraction: float
) -> tuple[DatasetIndex, DataReport]:
    """Read a split of a data.yaml; an image without a label file has no objects."""
    return read_records(
        records_of(images_of(description, split)),
        AnnotationReader(description.class_names, annotation_format(description)),
        description.class_names,
        source=f"{description.path} ({split})",
        max_bad_fraction=max_bad_fraction,
        upright=True,
    )


def read_records(
    records: Sequence[Record],
    reader: AnnotationReader,
    class_names: Sequence[str],
    *,
    source: str,
    max_bad_fraction: float,
    require_boxes: bool = True,
    progress: Progress | None = None,
    upright: bool = False,
) -> tuple[DatasetIndex, DataReport]:
    """Read records, at least one, as `read_dataset` does; `source` names them in messages.

    `upright`: the images count as their orientation tags turn them, and boxes lie on those. Without
    `require_boxes` a data set without objects is taken.
    """
    report = DataReport(source, listed=len(records))
    unique = list({record.image: record for record in reversed(records)}.values())[::-1]
    report.duplicate_images = len(records) - len(unique)
    examined = iter(
        progress_bar(
            _examine_all(unique, reader, progress, upright),
            "reading annotations",
            total=len(unique),
        )
    )
    slabs = []
    while slab := list(islice(examined, SLAB)):
        slabs.append(_index_of(slab, class_names, report, upright))
    index = DatasetIndex.concatenate(slabs)
    _check_bad_fraction(report, len(unique), len(index), max_bad_fraction)
    _check_one_decodes(index.paths, report)
    if report.other_sizes.count:
        log.warning("%s", report.size_warning())
    report.count(index)
    if require_boxes and not len(index.boxes):
        raise TaskError(Code.DATASET, _why_no_boxes(report, class_names))
    return index, report


def _index_of(
    examined: Sequence[tuple[Record, _Outcome]],
    class_names: Sequence[str],
    report: DataReport,
    upright: bool,
) -> DatasetIndex:
    """Return the usable images with their clean boxes; `report` counts what is wrong."""
    paths, sizes, annotations = [], [], []
    for record, outcome in examined:
        if isinstance(outcome, ImageError):
            report.bad_images.add(str(outcome))
            report.missing_images += not os.path.isfile(record.image)
        elif isinstance(outcome, AnnotationError):
            report.bad_annotations.add(str(outcome))
        else:
            header, annotation = outcome
            size = header.size_of(upright=upright)
            paths.append(record.image)
            sizes.append(size)
            annotations.append(annotation)
            report.turned += upright and header.orientation > 1
            stated = annotation.size
            if stated not in (None, size):
                said = f"{record.image}: {size[1]}x{size[0]}, stated {stated[1]}x{stated[0]}"
                report.other_sizes.add(said)
    for found in annotations:
        report.rotated += found.rotated
        report.without_area += found.without_box
        report.crowds += len(found.crowds)
        report.unknown_classes.update(found.unknown_classes)
    hw = np.array(sizes, np.int32).reshape(-1, 2)
    clean, owners = _clean([found.instances for found in annotations], hw, report)
    counts = np.bincount(owners, minlength=len(paths))
    index = DatasetIndex.build(paths, hw, clean, counts, class_names, upright=upright)
    if not any(len(found.crowds) for found in annotations):
        return index
    # What is wrong with a region is no fault of an object: it is not counted among those.
    apart = DataReport(report.index_file)
    return index.with_crowds(*_clean([found.crowds for found in annotations], hw, apart))


def _clean(
    per_image: Sequence[Instances], sizes: npt.NDArray[np.int32], report: DataReport
) -> tuple[Instances, npt.NDArray[np.int64]]:
    """Join the objects of all images, cleaned; return them and the image of each."""
    instances = Instances.concatenate([Instances.from_rows(()), *per_image])
    owners = np.repeat(np.arange(len(per_image)), np.array([len(p) for p in per_image], np.int64))
    return clean_instances(instances, owners, sizes, report)


def _examine(record: Record, reader: AnnotationReader, upright: bool) -> _Outcome:
    try:
        header = image_header(record.image)
        if record.annotation is None:
            return header, Annotation()
        size = header.size_of(upright=upright)
        return header, reader.read(record.annotation, record.image, size)
    except (ImageError, AnnotationError) as error:
        return error


def _examine_all(
    records: Sequence[Record], reader: AnnotationReader, progress: Progress | None, upright: bool
) -> Iterator[tuple[Record, _Outcome]]:
    threads = min(16, 4 + available_cpus())
    remaining = iter(records)
    done = 0

    def examine(chunk: Sequence[Record]) -> list[_Outcome]:
        return [_examine(record, reader, upright) for record in chunk]

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
    """Return whether reading waits for files: then threads pay; else they double the time."""
    return seconds > 2 * computing


def clean_instances(
    instances: Instances,
    owners: npt.NDArray[np.int64],
    sizes: npt.NDArray[np.int32],
    report: DataReport,
) -> tuple[Instances, npt.NDArray[np.int64]]:
    """Clip boxes to their image, and drop those without area and repeated ones.

    `owners` [n] is the image of each box, never descending; `sizes` [images, 2] are (height,
    width). Return what stays, boxes in float32, with its owners; `report` counts the rest.
    """
    limits = sizes[owners][:, [1, 0, 1, 0]]
    boxes = np.clip(instances.boxes, 0, limits).astype(np.float32)
    outside = ((instances.boxes < 0) | (instances.boxes > limits)).any(axis=1)
    has_area = (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
    report.without_area += int((~has_area).sum())
    report.clipped += int((outside & has_area).sum())
    kept = np.flatnonzero(has_area)
    columns = (*boxes[kept].T, instances.classes[kept], owners[kept])
    # Equal rows come to lie side by side, the first of them first: this sort keeps the order.
    order = np.lexsort(columns)
    again = np.ones(max(len(order) - 1, 0), bool)
    for column in columns:
        again &= column[order[1:]] == column[order[:-1]]
    report.duplicate_boxes += int(again.sum())
    kept = np.delete(kept, order[1:][again])
    return instances.with_boxes(boxes).take(kept), owners[kept]


def _check_bad_fraction(
    report: DataReport, listed: int, usable: int, max_bad_fraction: float
) -> None:
    bad = report.bad_images.count + report.bad_annotations.count
    if usable and bad <= max_bad_fraction * listed:
        return
    first = "; ".join(report.bad_images.examples[:1] + report.bad_annotations.examples[:1])
    if report.bad_images.count == listed and report.missing_images < listed:
        raise TaskError(
            Code.IMAGE_FORMAT,
            f"no image of {report.index_file} can be read ({listed:,} listed), for example "
            f"{first}; check that they are JPEG, PNG or BMP files.",
        )
    limit = "" if not usable else f" (max_bad_fraction allows {max_bad_fraction:g})"
    raise TaskError(
        Code.DATASET,
        f"unusable images of {report.index_file}: {bad:,} of {listed:,}{limit}, for example "
        f"{first}; mend or remove them.",
    )


def _check_one_decodes(paths: Sequence[str], report: DataReport) -> None:
    """Decode images until one succeeds: a header may be whole where the rest is not."""
    for path in paths:
        try:
            read_image(path)
        except ImageError as error:
            fault = error
        else:
            return
    raise TaskError(
        Code.IMAGE_FORMAT,
        f"no image of {report.index_file} can be decoded ({len(paths):,} listed), for example "
        f"{fault}; check that they are whole.",
    )


def _why_no_boxes(report: DataReport, class_names: Iterable[str]) -> str:
    unknown = ", ".join(name for name, _ in report.unknown_classes.most_common(EXAMPLES))
    if unknown:
        return (
            f"no object of {report.index_file} is of a class to be trained: the annotations hold "
            f"{unknown}, class_names holds {', '.join(class_names)}; make them agree."
        )
    if report.crowds:
        return (
            f"all {report.crowds} objects of {report.index_file} are marked as crowd regions "
            "(iscrowd: 1), which are no single objects to train on; tools that write masks of a "
            "brush so (CVAT) export single objects as polygons or boxes."
        )
    return (
        f"the {report.kept} usable images of {report.index_file} hold no object; "
        "label some of them, or choose other classes."
    )
