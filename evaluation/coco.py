"""COCO's twelve figures from detections and labels in memory, through the package faster-coco-eval.

They stand beside v7.0's, whose average precision is closed differently at recall 1, looks at 300
detections per image instead of 100, and knows no object sizes.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Iterable, Iterator
from dataclasses import astuple, dataclass
from typing import Any

import numpy as np

from data.dataset_index import DatasetIndex
from utils.errors import Code, TaskError

PACKAGE = "faster-coco-eval"
NAMES = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")

Found = Iterable[tuple[int, np.ndarray]]
"""(position in the data set, detections [n, 6]: xyxy in pixels of the original, confidence, class)
of each image; an image that is not among them counts as one without detections."""


@dataclass(frozen=True)
class CocoMetrics:
    """Average precision and recall over IoU 0.5 to 0.95, in [0, 1]; None where no label counts.

    s, m, l: labels below 32 x 32, below 96 x 96, and above, in pixels of the original image.
    """

    ap: float | None
    ap50: float | None
    ap75: float | None
    ap_small: float | None
    ap_medium: float | None
    ap_large: float | None
    ar1: float | None
    ar10: float | None
    ar100: float | None
    ar_small: float | None
    ar_medium: float | None
    ar_large: float | None

    def named(self) -> Iterator[tuple[str, float | None]]:
        """(name as COCO writes it, value) of each."""
        yield from zip(NAMES, astuple(self), strict=True)


def coco_available() -> bool:
    """Whether the package is installed."""
    return importlib.util.find_spec("faster_coco_eval") is not None


def coco_metrics(found: Found, index: DatasetIndex) -> CocoMetrics:
    """COCO's figures for the detections of a data set against its labels.

    Raises TaskError(CONTAINER) naming the package where it is not installed.
    """
    package = _package()
    known = _data_set(index)
    owners = np.repeat(np.arange(len(index)), np.diff(index.offsets))
    truth = [
        _record(position, category, corners)
        for position, category, corners in zip(
            owners.tolist(), index.classes.tolist(), index.boxes, strict=True
        )
    ]
    detected = [
        {**_record(position, row[5], row[:4]), "score": float(row[4])}
        for position, rows in found
        for row in rows
    ]
    evaluator = package.COCOeval_faster(
        package.COCO({**known, "annotations": _numbered(truth)}),
        package.COCO({**known, "annotations": _numbered(detected)}),
        iouType="bbox",
        print_function=lambda *_: None,
    )
    evaluator.run()
    values = np.asarray(evaluator.all_stats, np.float64)[: len(NAMES)].tolist()
    # The package writes -1 where there is nothing to measure.
    return CocoMetrics(*(None if value < 0 else value for value in values))


def _package() -> Any:
    try:
        return importlib.import_module("faster_coco_eval")
    except ImportError as error:
        raise TaskError(
            Code.CONTAINER,
            f"COCO's metrics need the package {PACKAGE}, which cannot be imported ({error}): "
            f"install {PACKAGE}, or do without --coco.",
        ) from None


def _data_set(index: DatasetIndex) -> dict[str, list[dict[str, object]]]:
    """Images and classes as COCO lists them; ids of images count from 1."""
    return {
        "images": [
            {"id": position + 1, "height": int(height), "width": int(width)}
            for position, (height, width) in enumerate(index.sizes)
        ],
        "categories": [{"id": c, "name": name} for c, name in enumerate(index.class_names)],
    }


def _record(position: int, category: float, corners: np.ndarray) -> dict[str, object]:
    """One box, xyxy, as COCO writes it: left, top, width, height."""
    left, top, right, bottom = corners.tolist()
    width, height = right - left, bottom - top
    return {
        "image_id": position + 1,
        "category_id": int(category),
        "bbox": [left, top, width, height],
        "area": width * height,
        "iscrowd": 0,
        "segmentation": [],
    }


def _numbered(records: list[dict[str, object]]) -> list[dict[str, object]]:
    """The records with ids from 1 on: the evaluator takes a match with id 0 for none."""
    for number, record in enumerate(records, start=1):
        record["id"] = number
    return records
