"""COCO's figures on cases that can be computed by hand."""

from __future__ import annotations

import importlib

import numpy as np
import pytest

from data.dataset_index import DatasetIndex
from data.instances import Instances
from evaluation import coco as module
from evaluation.coco import NAMES, CocoMetrics, coco_available, coco_metrics
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


def test_names_are_those_of_coco() -> None:
    measured = dict(coco_metrics(PERFECT, SPLIT).named())
    assert tuple(measured) == NAMES


def test_a_perfect_detector_has_one_everywhere_but_where_one_look_is_not_enough() -> None:
    """Class a has two objects in one image: with one detection per image its recall is 1/2."""
    found = coco_metrics(PERFECT, SPLIT)
    assert found.ar1 == pytest.approx((0.5 + 1) / 2)
    values = dict(found.named())
    del values["AR1"]
    assert set(values.values()) == {1.0}


def test_nothing_found_is_zero_and_nothing_to_find_is_none() -> None:
    nothing = coco_metrics([], SPLIT)
    assert {value for _, value in nothing.named()} == {0.0}
    one_size = coco_metrics([], index([SMALL]))
    assert (one_size.ap, one_size.ap_small) == (0.0, 0.0)
    assert (one_size.ap_medium, one_size.ap_large, one_size.ar_large) == (None, None, None)


def test_a_missed_and_an_invented_object_by_hand() -> None:
    """Class a: a miss before a hit (precision 1/2 up to recall 1/2): 51 of 101 points at 1/2.
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
    assert found.ap50 == pytest.approx((half + 1) / 2)
    assert found.ap75 == pytest.approx((half + 1) / 2)
    assert found.ap == pytest.approx((half + 0.6) / 2)
    assert found.ar100 == pytest.approx((0.5 + 0.6) / 2)
    # Among small objects the invented one of 900 pixels stays an invention.
    assert found.ap_small == pytest.approx(0.5)
    assert found.ap_medium == 0.0
    assert found.ap_large == pytest.approx(0.6)


def test_an_image_without_labels_counts_its_inventions() -> None:
    with_noise = [(2, rows((10, 10, 30, 30, 0.95, 0))), *PERFECT]
    assert (coco_metrics(with_noise, SPLIT).ap or 0) < (coco_metrics(PERFECT, SPLIT).ap or 0)


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise ImportError(f"No module named {name!r}")

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(TaskError, match="install faster-coco-eval"):
        coco_metrics(PERFECT, SPLIT)
    monkeypatch.setattr(module.importlib.util, "find_spec", lambda name: None)
    assert not coco_available()


def test_the_package_is_there() -> None:
    assert coco_available()
    assert isinstance(coco_metrics(PERFECT, SPLIT), CocoMetrics)
