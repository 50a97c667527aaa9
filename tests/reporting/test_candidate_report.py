from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from inference.predictor import Prediction
from reporting.candidate_report import SHOWN, CandidateReport
from tests.evaluation.evaluation_example import names_of, split
from tests.reporting.page_reader import read_page_file


def predictions(folder: Path, count: int, classes: int, boxes: int) -> list[Prediction]:
    """Image i has min(i, boxes) detections; the last one cannot be read."""
    index = split(folder, classes=classes, images=count, boxes=boxes)
    found = [
        Prediction(
            n,
            path,
            (60, 80),
            np.column_stack([index.boxes_of(n), np.full(boxes, 0.5), index.classes_of(n)]).astype(
                np.float32
            )[:n],
        )
        for n, path in enumerate(index.paths)
    ]
    return [*found, Prediction(count, str(folder / "gone.jpg"), None, error="missing")]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("classes", [1, 6, 80])
@pytest.mark.parametrize("boxes", [0, 3])
def test_inference(
    tmp_path: Path, classes: int, boxes: int, caplog: pytest.LogCaptureFixture
) -> None:
    made = predictions(tmp_path / "data", 5, classes, boxes)
    report = CandidateReport(names_of(classes), len(made), mining=False)
    assert list(report.watch(made)) == made
    report.write(tmp_path / "out")
    assert not caplog.records
    read = read_page_file(tmp_path / "out" / "report.html")
    objects = sum(len(one.detections) for one in made)
    assert objects == (9 if boxes else 0)
    assert f"6 images {objects} objects detected" in read.text
    assert f"{1 if boxes else 5} images without detections" in read.text
    assert "1 images that could not be read" in read.text
    for name in names_of(classes):
        assert name in read.text
    assert len(read.images) == 5
    assert list((tmp_path / "out").glob("events.*"))


def test_mining_shows_both_ends(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    made = predictions(tmp_path / "data", 40, 2, 2)
    report = CandidateReport(names_of(2), len(made), mining=True)
    for one in report.watch(made):
        # Scores fall with the position, apart from the last ten, which are equal.
        score = None if one.error else 1 - min(one.position, 30) / 100
        report.scored(one.position, score)
    report.write(tmp_path / "out")
    assert not caplog.records
    read = read_page_file(tmp_path / "out" / "report.html")
    assert len(read.images) == 2 * SHOWN
    numbers = [int(words.split()[0]) for words in read.text.split("photo ")[1:]]
    assert numbers == [*range(SHOWN), *range(40 - SHOWN, 40)]
    assert "<b>.png: score 0.700" in read.text


def test_an_image_is_shown_with_its_own_detections(tmp_path: Path) -> None:
    """Scores come later than predictions and in another order."""
    made = predictions(tmp_path / "data", 3, 1, 3)
    report = CandidateReport(names_of(1), len(made), mining=True)
    list(report.watch(made))
    for position in (3, 1, 2, 0):
        report.scored(position, None if position == 3 else position / 10)
    assert [len(row[2].detections) for row in sorted(report._first)] == [0, 1, 2]


def test_nothing_at_all(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    report = CandidateReport((), 0, mining=True)
    report.write(tmp_path)
    assert not caplog.records
    assert "nothing to show" in read_page_file(tmp_path / "report.html").text
