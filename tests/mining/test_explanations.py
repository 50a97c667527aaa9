"""The table of a ranking: its order, its parts, foreign names."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

from inference.journal import Entry, Journal
from mining.explanations import HEADER, write_explanations

WHY = {
    "view": "flip",
    "view_scores": {"flip": 0.5, "cutout": 0.25},
    "box": [1.0, 2.0, 3.5, 4.0],
    "class": 1,
    "confidence": 0.7,
    "iou": 0.6,
    "divergence": 0.1,
    "partner_box": [1.5, 2.0, 3.0, 4.0],
    "partner_class": 0,
    "partner_confidence": 0.4,
}


def test_a_line_an_image(tmp_path: Path) -> None:
    rows = np.ones((2, 6), np.float32)
    with Journal(tmp_path / "log", identity="", section=1, total=3) as log:
        list(log.kept())
        log.add(Entry(0, 'a,"b\n.jpg', (9, 9), rows, None, 0, {"score": 0.375, "why": WHY}))
        log.add(Entry(1, "b\udcff.jpg", None, rows[:0], "broken", 1, {"score": None}))
        log.add(Entry(2, "c.jpg", (9, 9), rows[:0], None, 2, {"score": None, "empty": True}))
    write_explanations(tmp_path / "t.csv", log, [1.5, None, 0.0], ("cat", "dog"))
    with open(tmp_path / "t.csv", encoding="utf-8", errors="surrogateescape", newline="") as file:
        first, second, third = csv.DictReader(file)
    assert tuple(first) == HEADER
    assert list(first.values()) == [
        "1", 'a,"b\n.jpg', "1.500000", "0.375000", "2", "flip", "flip=0.5 cutout=0.25", "dog",
        "0.7", "1.0", "2.0", "3.5", "4.0", "0.6", "0.1", "cat", "0.4", "1.5", "2.0", "3.0", "4.0",
        "",
    ]  # fmt: skip
    assert (second["rank"], second["path"], second["score"], second["own_score"]) == (
        "2", "c.jpg", "0.000000", "",
    )  # fmt: skip
    assert (third["rank"], third["path"], third["error"]) == ("3", "b\udcff.jpg", "broken")
