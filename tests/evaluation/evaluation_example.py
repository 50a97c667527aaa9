"""A small labelled split on disk and an evaluation of it, for the tests of figures and pages."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import cv2
import numpy as np

from data.dataset_index import DatasetIndex
from data.instances import Instances
from evaluation.evaluator import Evaluation, EvaluationConfig, Evaluator, ground_truth

ODD_NAMES = ("<script>alert(1)</script>", "细胞", "$a_b^$ $", "_hidden", "x" * 90, "naïve & more")
SIZE = (60, 80)

# The worked example of the v7.0 specification.
DETECTIONS = np.array(
    [
        [0, 0, 10, 10, 0.9, 0],
        [0, 0, 10, 12, 0.8, 0],
        [0, 0, 9, 10, 0.7, 0],
        [20, 20, 30, 30, 0.6, 1],
        [20, 20, 30, 31, 0.5, 0],
    ],
    np.float32,
)
LABELS = np.array([[0, 0, 0, 10, 10], [1, 20, 20, 30, 29], [0, 1, 0, 11, 10]], np.float32)


def names_of(count: int) -> tuple[str, ...]:
    """Odd names first, then plain ones."""
    return tuple(ODD_NAMES[n] if n < len(ODD_NAMES) else f"class_{n}" for n in range(count))


def split(folder: Path, *, classes: int, images: int = 6, boxes: int = 4) -> DatasetIndex:
    """Pictures of noise with `boxes` labels each, their classes in turn."""
    rng = np.random.default_rng(classes)
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for number in range(images):
        paths.append(str(folder / f"photo {number} <b>.png"))
        cv2.imwrite(paths[-1], rng.integers(0, 255, (*SIZE, 3), np.uint8))
    corners = rng.uniform(0, 40, (images * boxes, 2))
    return DatasetIndex.build(
        paths,
        [SIZE] * images,
        Instances(
            np.concatenate([corners, corners + rng.uniform(8, 18, corners.shape)], axis=1),
            np.arange(images * boxes) % classes,
        ),
        [boxes] * images,
        names_of(classes),
    )


def evaluation(index: DatasetIndex, *, miss_first: int = 0, confidence: float = 0.25) -> Evaluation:
    """Every label found with confidence 0.9, but of image i only those from `miss_first - i` on."""
    evaluator = Evaluator(len(index.class_names), EvaluationConfig(confidence))
    for position in range(len(index)):
        labels = ground_truth(index, position)
        boxes, classes = labels[:, 1:], labels[:, 0]
        rows = np.column_stack([boxes, np.full(len(boxes), 0.9), classes]).astype(np.float32)
        evaluator.add(rows[max(miss_first - position, 0) :], labels, position=position)
    return evaluator.evaluation()


def assert_same(one: Evaluation, other: Evaluation) -> None:
    """Equal to the last bit, and in order."""
    assert list(one.detections) == list(other.detections)
    np.testing.assert_array_equal(one.confusion.matrix, other.confusion.matrix)
    first, second = asdict(one), asdict(other)
    del first["confusion"], second["confusion"]
    np.testing.assert_equal(first, second)


def blind(index: DatasetIndex) -> Evaluation:
    """No detection at all."""
    return evaluation(index, miss_first=10**6)
