"""COCO: its twelve metrics through the package faster-coco-eval, and its JSON of detections.

COCO's metrics differ from v7.0's: 100 detections per image instead of 300, another end of the
precision-recall curve, and object sizes.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from data.dataset_index import DatasetIndex
from utils.atomic import write_text
from utils.errors import Code, TaskError

PACKAGE = "faster-coco-eval"
NAMES = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")
_GAPS = (12, 26, 29, 30, 45, 66, 68, 69, 71, 83)
COCO_IDS = tuple(number for number in range(1, 91) if number not in _GAPS)
"""COCO's category ids of its 80 classes: ten numbers up to 90 are not used."""

SplitDetections = Iterable[tuple[int, np.ndarray]]
"""(position in the split, detections [n, 6]: xyxy in pixels of the original, confidence, class) of
each image; an image that is missing has no detections."""


CocoMetrics = dict[str, float | None]
"""By NAMES: average precision and recall over IoU 0.5 to 0.95, in [0, 1]; None without such labels.

s, m, l: labels below 32 x 32, below 96 x 96, and above, in pixels of the original image."""


def coco_available() -> bool:
    """Return whether the package is installed."""
    return importlib.util.find_spec("faster_coco_eval") is not None


def coco_metrics(found: SplitDetections, index: DatasetIndex) -> CocoMetrics:
    """Compute COCO's metrics of detections against the labels of `index`.

    Raises TaskError(CONTAINER) naming the package where it is not installed.
    """
    try:
        package: Any = importlib.import_module("faster_coco_eval")
    except ImportError as error:
        raise TaskError(
            Code.CONTAINER,
            f"COCO's metrics need the package {PACKAGE}, which cannot be imported ({error}): "
            f"install {PACKAGE}, or do without --coco.",
        ) from None
    images = [
        {"id": position + 1, "height": int(height), "width": int(width)}
        for position, (height, width) in enumerate(index.sizes)
    ]
    categories = [{"id": c, "name": name} for c, name in enumerate(index.class_names)]
    owned = zip(index.owners().tolist(), index.classes.tolist(), index.boxes, strict=True)
    labels = [_annotation(*one) for one in owned]
    regions = (index.crowd_images.tolist(), index.crowds.classes.tolist(), index.crowds.boxes)
    labels += [{**_annotation(*one), "iscrowd": 1} for one in zip(*regions, strict=True)]
    detections = [
        {**_annotation(position, row[5], row[:4]), "score": float(row[4])}
        for position, rows in found
        for row in rows
    ]
    truth, predicted = (
        # The evaluator takes a match with id 0 for none.
        package.COCO(
            {
                "images": images,
                "categories": categories,
                "annotations": [{**one, "id": number} for number, one in enumerate(rows, start=1)],
            }
        )
        for rows in (labels, detections)
    )
    evaluator = package.COCOeval_faster(
        truth, predicted, iouType="bbox", print_function=lambda *_: None
    )
    evaluator.run()
    values = np.asarray(evaluator.all_stats, np.float64).tolist()
    # The package writes -1 where there is nothing to measure.
    return {name: None if v < 0 else v for name, v in zip(NAMES, values, strict=False)}


def _annotation(position: int, category: float, box: np.ndarray) -> dict[str, object]:
    left, top, right, bottom = box.tolist()
    width, height = right - left, bottom - top
    return {
        "image_id": position + 1,
        "category_id": int(category),
        "bbox": [left, top, width, height],
        "area": width * height,
        "iscrowd": 0,
        "segmentation": [],
    }


def write_coco_json(
    path: Path,
    found: SplitDetections,
    index: DatasetIndex,
    category_ids: Sequence[int] | None = None,
) -> int:
    """Write detections as v7.0's --save-json for COCO's evaluation server; return how many.

    `image_id` is the number that the file's stem is, or the stem. `category_ids` maps classes to
    categories; None keeps their numbers. Boxes become x, y, width, height with three decimals,
    scores have five.
    """
    records: list[dict[str, object]] = []
    for position, rows in found:
        stem = Path(index.paths[position]).stem
        for x1, y1, x2, y2, score, number in rows.astype(float).tolist():
            category = int(number)
            records.append(
                {
                    "image_id": int(stem) if stem.isdecimal() else stem,
                    "category_id": category_ids[category] if category_ids else category,
                    "bbox": [round(value, 3) for value in (x1, y1, x2 - x1, y2 - y1)],
                    "score": round(score, 5),
                }
            )
    write_text(path, json.dumps(records))
    return len(records)
