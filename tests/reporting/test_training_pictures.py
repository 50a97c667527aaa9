from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from reporting.colours import ACCENT, ALERT, bgr
from reporting.training_pictures import draw_missed, labels_and_detections, missed_objects
from tests.evaluation.evaluation_example import blind, evaluation, split


def count(image: np.ndarray, colour: str) -> int:
    return int((image == bgr(colour)).all(axis=2).sum())


def test_images_that_miss_most_come_first(tmp_path: Path) -> None:
    index = split(tmp_path, classes=2)
    missed = missed_objects(evaluation(index, miss_first=3), index)
    assert [(one.position, one.missed, one.total) for one in missed] == [
        (0, 3, 4),
        (1, 2, 4),
        (2, 1, 4),
    ]


def test_the_numbers_missed_are_those_reported(tmp_path: Path) -> None:
    index = split(tmp_path, classes=3)
    judged = evaluation(index, miss_first=4)
    missed = missed_objects(judged, index)
    assert sum(one.missed for one in missed) == judged.at_confidence.false_negatives > 0


def test_missed_boxes_have_another_colour(tmp_path: Path) -> None:
    index = split(tmp_path, classes=1, images=2, boxes=1)
    judged = evaluation(index)
    judged.detections[0] = judged.detections[0][:0]
    missed = missed_objects(judged, index)
    (tile,) = draw_missed(missed, judged, index)
    assert tile.caption == "1. photo 0 <b>.png: 1 of 1 missed"
    assert count(tile.image, ALERT) > 50
    assert count(tile.image, ACCENT) == 0


@pytest.mark.parametrize("classes", [1, 80])
def test_a_blind_network_misses_everything(tmp_path: Path, classes: int) -> None:
    index = split(tmp_path, classes=classes)
    judged = blind(index)
    assert len(missed_objects(judged, index)) == len(index)
    assert len(draw_missed(missed_objects(judged, index), judged, index, most=4)) == 4


def test_nothing_is_missed(tmp_path: Path) -> None:
    index = split(tmp_path, classes=2)
    judged = evaluation(index)
    assert missed_objects(judged, index) == []
    assert draw_missed([], judged, index) == []


@pytest.mark.parametrize(("images", "tiles"), [(1, 2), (6, 12), (30, 16)])
def test_labels_stand_beside_detections(tmp_path: Path, images: int, tiles: int) -> None:
    index = split(tmp_path, classes=2, images=images)
    drawn = labels_and_detections(evaluation(index, miss_first=2), index)
    assert len(drawn) == tiles
    assert drawn[0].caption.endswith(": 4 labels")
    assert drawn[1].caption.endswith(": 2 detections")


def test_a_file_that_is_gone_is_left_out(tmp_path: Path) -> None:
    index = split(tmp_path, classes=2, images=2)
    Path(index.paths[0]).unlink()
    judged = evaluation(index, miss_first=4)
    assert len(labels_and_detections(judged, index)) == 2
    assert len(draw_missed(missed_objects(judged, index), judged, index)) == 1
