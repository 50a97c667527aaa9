from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from inference.journal import Record
from inference.predictor import Prediction
from reporting.candidate_report import SHOWN, CandidateReport, breakdown_words, coverage
from tests.evaluation.evaluation_example import names_of, split
from tests.reporting.page_reader import read_page_file


def predictions(folder: Path, count: int, classes: int, boxes: int) -> list[Prediction]:
    """Image i has min(i, boxes) detections; the last one is unreadable."""
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


def record(prediction: Prediction, breakdown: dict[str, object] | None = None) -> Record:
    one = prediction
    scored = {"breakdown": breakdown} if breakdown else None
    return Record(one.position, one.path, one.size, one.detections, one.error, 0, scored)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(("classes", "boxes"), [(1, 0), (6, 3), (80, 3)])
def test_inference(
    tmp_path: Path, classes: int, boxes: int, caplog: pytest.LogCaptureFixture
) -> None:
    made = predictions(tmp_path / "data", 5, classes, boxes)
    report = CandidateReport(names_of(classes), len(made), mining=False)
    for one in made:
        report.add(one)
    report.write(tmp_path / "out")
    assert not caplog.records
    read = read_page_file(tmp_path / "out" / "report.html")
    objects = sum(len(one.detections) for one in made)
    assert objects == (9 if boxes else 0)
    assert f"6 images {objects} objects detected" in read.text
    assert f"{1 if boxes else 5} images without detections" in read.text
    assert "1 images that could not be read" in read.text
    assert f"6 images (1 unreadable, {1 if boxes else 5} without objects), " in report.summary()
    for name in names_of(classes):
        assert name in read.text
    assert len(read.images) == 5 + 2
    assert list((tmp_path / "out").glob("events.*"))


def test_mining_shows_both_ends_of_the_ranking(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    made = predictions(tmp_path / "data", 40, 2, 2)
    report = CandidateReport(names_of(2), len(made), mining=True)
    # Scores fall with the position, apart from the last ten, which are equal.
    scores = [None if one.error else 1 - min(one.position, 30) / 100 for one in made]
    for one, score in zip(made, scores, strict=True):
        report.add(one)
        report.scored(one.position, score)
    report.write(
        tmp_path / "out",
        ranking=range(41),
        scores=scores,
        known=lambda n: record(made[n], {"view": "flip", "box": [1, 1, 9, 9]}),
        sheets=tmp_path,
    )
    assert not caplog.records
    read = read_page_file(tmp_path / "out" / "report.html")
    assert len(read.images) == 2 * SHOWN + 5
    numbers = [int(words.split()[0]) for words in read.text.split("photo ")[1:]]
    assert numbers == [*range(SHOWN), *range(40 - SHOWN, 40)]
    assert "<b>.png: score 0.700, flip: nothing detected again" in read.text
    # The unreadable image is not among the first 40; image 1 has one object, the others two.
    first, second = names_of(2)
    assert f"class k = 10 k = 30 k = 40 {first} 9 29 39 {second} 8 28 38" in read.text
    assert {path.name for path in tmp_path.glob("*.jpg")} == {"first.jpg", "last.jpg"}


def test_an_image_is_shown_with_its_own_detections(tmp_path: Path) -> None:
    """Scores come later than predictions and in another order."""
    made = predictions(tmp_path / "data", 3, 1, 3)
    report = CandidateReport(("cell",), len(made), mining=True)
    for one in made:
        report.add(one)
    for position in (3, 1, 2, 0):
        report.scored(position, None if position == 3 else position / 10)
    report.write(tmp_path)
    text = read_page_file(tmp_path / "report.html").text
    first = text.split("Label these first")[-1].split("Label these last")[0]
    assert first.count("cell 0.50") == 3
    assert first.index("score 0.200") > first.rindex("cell 0.50", 0, first.index("score 0.200"))


def test_nothing_at_all(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    report = CandidateReport((), 0, mining=True)
    report.write(tmp_path, ranking=[0], scores=[None])
    assert not caplog.records
    text = read_page_file(tmp_path / "report.html").text
    assert "0 images" in text
    assert "How many to label" not in text


def test_a_page_that_fails_is_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "report.html").mkdir()
    CandidateReport(("a",), 0, mining=False).write(tmp_path)
    assert "report.html could not be made" in caplog.text


def test_coverage_counts_each_image_once_per_class() -> None:
    classes = ([1, 0, 7], [], [0, 0], [2])
    rows = [np.array([[0, 0, 1, 1, 0.5, c] for c in own]).reshape(-1, 6) for own in classes]
    records = [record(Prediction(n, "", (9, 9), one)) for n, one in enumerate(rows)]
    found = [row.tolist() for row in coverage([*records, None], 3)]
    assert found == [[1, 1, 0], [1, 1, 0], [2, 1, 0], [2, 1, 1], [2, 1, 1]]


@pytest.mark.parametrize(
    ("breakdown", "words"),
    [
        ({"view": "flip"}, "flip: nothing detected again"),
        ({"view": "flip", "iou": 0.0}, "flip: object lost"),
        ({"view": "cutout", "iou": 0.5, "divergence": 0.125}, "cutout: IoU 0.50, divergence 0.12"),
    ],
)
def test_a_breakdown_in_words(breakdown: dict[str, object], words: str) -> None:
    assert breakdown_words(breakdown) == words
