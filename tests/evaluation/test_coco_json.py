"""COCO's JSON of detections, by hand."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from evaluation.coco_json import COCO_IDS, write_detections

ROWS = np.array([[1.00049, 2, 11, 22.5, 0.123456, 1]])


def test_cocos_ids_skip_ten_numbers() -> None:
    """Specification inference_metrics.md, 5.5."""
    ranges = (
        (1, 11),
        (13, 25),
        (27, 28),
        (31, 44),
        (46, 65),
        (67, 67),
        (70, 70),
        (72, 82),
        (84, 90),
    )
    assert tuple(n for first, last in ranges for n in range(first, last + 1)) == COCO_IDS
    assert len(COCO_IDS) == 80


def test_records_by_hand(tmp_path: Path) -> None:
    found = [("in/000042.jpg", ROWS), ("in/b.jpg", ROWS), ("in/c.jpg", ROWS[:0])]
    assert write_detections(tmp_path / "a.json", found) == 2
    box = {"category_id": 1, "bbox": [1.0, 2.0, 10.0, 20.5], "score": 0.12346}
    assert json.loads((tmp_path / "a.json").read_text()) == [
        {"image_id": 42, **box},
        {"image_id": "b", **box},
    ]


def test_other_category_ids(tmp_path: Path) -> None:
    write_detections(tmp_path / "a.json", [("b.jpg", ROWS)], category_ids=(1, 13))
    assert json.loads((tmp_path / "a.json").read_text())[0]["category_id"] == 13
