"""COCO's metrics and its JSON of detections, on cases that can be computed by hand."""

from __future__ import annotations

import importlib
import json
from pathlib import Path

import numpy as np
import pytest

from data.dataset_index import DatasetIndex
from data.instances import Instances
from evaluation import coco as module
from evaluation.coco import COCO_IDS, NAMES, coco_available, coco_metrics, write_coco_json
from utils.errors import TaskError

NAMES_OF_CLASSES = ("a", "b")


def index(*images: list[tuple[int, float, float, float, float]]) -> DatasetIndex:
    """Images of 400 x 400 pixels with labels (class, x1, y1, x2, y2)."""
    labels = [label for image in images for label in image]
    return DatasetIndex.build(
        [f"{n}.png" for n in range(len(images))],
        [(400, 400)] * len(images),
        Instances([label[1:] for label in labels], [label[0] for label in labels]),
        [len(image) for image in images],
        NAMES_OF_CLASSES,
    )


def rows(*given: tuple[float, ...]) -> np.ndarray:
    return np.array(given, np.float32).reshape(-1, 6)


SMALL, MEDIUM, LARGE = (0, 10, 10, 30, 30), (0, 50, 50, 110, 110), (1, 150, 150, 350, 350)
"""Areas 400, 3600 and 40000 pixels."""
SPLIT = index([SMALL, MEDIUM], [LARGE], [])
PERFECT = [
    (0, rows((10, 10, 30, 30, 0.9, 0), (50, 50, 110, 110, 0.8, 0))),
    (1, rows((150, 150, 350, 350, 0.7, 1))),
]


def test_a_perfect_detector_scores_one_except_with_one_detection_per_image() -> None:
    """Class a has two objects in one image: with one detection per image its recall is 1/2."""
    found = coco_metrics(PERFECT, SPLIT)
    assert tuple(found) == NAMES
    assert found.pop("AR1") == pytest.approx((0.5 + 1) / 2)
    assert set(found.values()) == {1.0}


def test_no_detections_score_zero_and_no_labels_none() -> None:
    assert set(coco_metrics([], SPLIT).values()) == {0.0}
    one_size = coco_metrics([], index([SMALL]))
    assert [one_size[name] for name in ("AP", "APs", "APm", "APl")] == [0, 0, None, None]


def test_a_false_positive_and_a_loose_box_by_hand() -> None:
    """Class a: a false positive before a hit: 51 of 101 points at precision 1/2.
    Class b: found, but as a box of IoU 150/200 = 0.75: right at 6 of 10 thresholds.
    """
    found = coco_metrics(
        [
            (0, rows((200, 200, 230, 230, 0.9, 0), (10, 10, 30, 30, 0.8, 0))),
            (1, rows((150, 150, 350, 300, 0.7, 1))),
        ],
        SPLIT,
    )
    half = 51 / 101 / 2
    expected = {"AP": (half + 0.6) / 2, "AP50": (half + 1) / 2, "AP75": (half + 1) / 2}
    # Among small objects that of 900 pixels stays a false positive.
    expected |= {"AR100": (0.5 + 0.6) / 2, "APs": 0.5, "APm": 0, "APl": 0.6}
    assert {name: found[name] for name in expected} == pytest.approx(expected)


def test_detections_in_an_image_without_labels_count() -> None:
    with_noise = [(2, rows((10, 10, 30, 30, 0.95, 0))), *PERFECT]
    assert (coco_metrics(with_noise, SPLIT)["AP"] or 0) < 1


def test_detections_in_a_crowd_region_do_not_count() -> None:
    """Any number of its class, ahead of the hit; those of another class do."""
    with_crowd = SPLIT.with_crowds(Instances([[200, 0, 400, 100]], [0]), np.array([0]))
    inside = [(*(200, 5, 240, 60, 0.99), 0), (*(300, 5, 330, 60, 0.98), 0)]
    found = [(0, np.concatenate([rows(*inside), PERFECT[0][1]])), PERFECT[1]]
    assert coco_metrics(found, with_crowd) | {"AR1": 0} == coco_metrics(PERFECT, SPLIT) | {"AR1": 0}
    assert (coco_metrics(found, SPLIT)["AP"] or 0) < 1
    found[0] = (0, np.concatenate([rows((*inside[0][:5], 1)), PERFECT[0][1]]))
    assert (coco_metrics(found, with_crowd)["AP"] or 0) < 1


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise ImportError(f"No module named {name!r}")

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(TaskError, match="install faster-coco-eval"):
        coco_metrics(PERFECT, SPLIT)
    monkeypatch.setattr(module.importlib.util, "find_spec", lambda name: None)
    assert not coco_available()


def test_category_ids_of_coco_skip_ten_numbers() -> None:
    """Specification inference_metrics.md, 5.5."""
    missing = {12, 26, 29, 30, 45, 66, 68, 69, 71, 83}
    assert set(range(1, 91)) - set(COCO_IDS) == missing
    assert len(COCO_IDS) == 80


def test_json_of_detections(tmp_path: Path) -> None:
    detections = np.array([[1.00049, 2, 11, 22.5, 0.123456, 1]])
    split = DatasetIndex.build(
        ["in/000042.jpg", "in/b.jpg", "in/c.jpg"],
        [(9, 9)] * 3,
        Instances([], []),
        [0] * 3,
        NAMES_OF_CLASSES,
    )
    found = [(0, detections), (1, detections), (2, detections[:0])]
    assert write_coco_json(tmp_path / "a.json", found, split) == 2
    box = {"category_id": 1, "bbox": [1.0, 2.0, 10.0, 20.5], "score": 0.12346}
    assert json.loads((tmp_path / "a.json").read_text()) == [
        {"image_id": 42, **box},
        {"image_id": "b", **box},
    ]
    write_coco_json(tmp_path / "b.json", found, split, category_ids=(1, 13))
    assert json.loads((tmp_path / "b.json").read_text())[0]["category_id"] == 13
