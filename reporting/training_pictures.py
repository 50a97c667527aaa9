"""The photographs that show a training: batches, labels beside detections, and what is missed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePath

import numpy as np

from data.dataset_index import DatasetIndex
from data.images import ImageError, read_image
from evaluation.evaluator import Evaluation, ground_truth
from evaluation.metrics import found_labels
from reporting.colours import ACCENT, ALERT, bgr
from reporting.drawing import Tile, draw_boxes, fitted, outline, tag
from reporting.lettering import label_of, shortened


@dataclass(frozen=True)
class Missed:
    """How many labelled objects of one image were not found."""

    position: int
    path: str
    missed: int
    total: int


def labels_and_detections(
    evaluation: Evaluation, index: DatasetIndex, *, most: int = 8
) -> list[Tile]:
    """Images spread over the split, each twice: with its labels, then with its detections."""
    tiles = []
    for position in np.unique(np.linspace(0, len(index) - 1, most).round().astype(int)).tolist():
        rows = evaluation.detections.get(position)
        image = _readable(index.paths[position])
        if rows is None or image is None:
            continue
        small, scale = fitted(image)
        name = shortened(PurePath(index.paths[position]).name)
        classes = index.classes_of(position)
        labelled = draw_boxes(small, index.boxes_of(position) * scale, classes, index.class_names)
        detected = draw_boxes(
            small, rows[:, :4] * scale, rows[:, 5].astype(int), index.class_names, rows[:, 4]
        )
        tiles.append(Tile(labelled, f"{name}: {_count(len(classes), 'label')}"))
        tiles.append(Tile(detected, f"{name}: {_count(len(rows), 'detection')}"))
    return tiles


def missed_objects(evaluation: Evaluation, index: DatasetIndex) -> list[Missed]:
    """Return the images that miss objects at the reported confidence: most missed first, then the
    larger share.
    """
    missed = []
    for position in sorted(evaluation.detections):
        found = _found(evaluation, index, position)
        if not found.all():
            count = int((~found).sum())
            missed.append(Missed(position, index.paths[position], count, len(found)))
    return sorted(missed, key=lambda one: (-one.missed, one.total))


def draw_missed(
    images: Sequence[Missed], evaluation: Evaluation, index: DatasetIndex, *, most: int = 12
) -> list[Tile]:
    """The first of `images`: found objects thin and blue, missed ones thick and orange."""
    tiles = []
    for number, one in enumerate(images[:most], start=1):
        image = _readable(one.path)
        if image is None:
            continue
        small, scale = fitted(image)
        canvas = small.copy()
        boxes = np.round(index.boxes_of(one.position) * scale).astype(int)
        classes = index.classes_of(one.position)
        found = _found(evaluation, index, one.position)
        for box in boxes[found].tolist():
            outline(canvas, box, bgr(ACCENT), 1)
        for box in boxes[~found].tolist():
            outline(canvas, box, bgr(ALERT), 3)
        for box, c in zip(boxes[~found].tolist(), classes[~found].tolist(), strict=True):
            tag(canvas, label_of(c, index.class_names), (box[0], box[1]), ALERT)
        name = shortened(PurePath(one.path).name)
        tiles.append(Tile(canvas, f"{number}. {name}: {one.missed} of {one.total} missed"))
    return tiles


def _found(evaluation: Evaluation, index: DatasetIndex, position: int) -> np.ndarray:
    return found_labels(evaluation.detections[position], ground_truth(index, position))


def _readable(path: str) -> np.ndarray | None:
    """The picture, or None for a file that can no longer be read: a report is not worth a task."""
    try:
        return read_image(path)
    except ImageError:
        return None


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
