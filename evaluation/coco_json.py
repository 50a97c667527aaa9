"""Detections as the JSON list that COCO's evaluation server takes, as v7.0's --save-json writes."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from utils.atomic import write_text

_GAPS = (12, 26, 29, 30, 45, 66, 68, 69, 71, 83)
COCO_IDS = tuple(number for number in range(1, 91) if number not in _GAPS)
"""COCO's category id of each of its 80 classes: ten numbers up to 90 are not used."""


def write_detections(
    path: Path,
    found: Iterable[tuple[str, np.ndarray]],
    *,
    category_ids: tuple[int, ...] | None = None,
) -> int:
    """Write (image path, detections [n, 6]: xyxy in its pixels, confidence, class); how many.

    An image is named by the number that its file's stem is, or by the stem. `category_ids` are the
    ids of the classes, by default their own numbers. Boxes become x, y, width, height with three
    decimals, scores have five.
    """
    records = [record for image, rows in found for record in _records(image, rows, category_ids)]
    write_text(path, json.dumps(records))
    return len(records)


def _records(
    image: str, rows: np.ndarray, category_ids: tuple[int, ...] | None
) -> list[dict[str, object]]:
    stem = Path(image).stem
    records: list[dict[str, object]] = []
    for x1, y1, x2, y2, score, number in rows.astype(float).tolist():
        index = int(number)
        records.append(
            {
                "image_id": int(stem) if stem.isdecimal() else stem,
                "category_id": index if category_ids is None else category_ids[index],
                "bbox": [round(value, 3) for value in (x1, y1, x2 - x1, y2 - y1)],
                "score": round(score, 5),
            }
        )
    return records
