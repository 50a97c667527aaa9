from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from inference.journal import Record
from inference.predictor import Prediction
from reporting.candidate_report import SHOWN, CandidateReport, breakdown_words
from tests.evaluation.evaluation_example import names_of, split
from tests.reporting.page_reader import read_page_file


def predictions(folder: Path, count: int, classes: int, boxes: int) -> list[Prediction]:
    """Image i has min(i, boxes) detections; the last one is unreadable."""
    index = split(folder, classes=classes, images=count, boxes=boxes)
    found = []
    for n, path in enumerate(index.paths):
        columns = (index.boxes_of(n), np.full(boxes, 0.5), index.classes_of(n))
        rows = np.column_stack(columns).astype(np.float32)[:n]
        found.append(Prediction(n, path, (60, 80), rows))
    return [*found, Prediction(count, str(folder / "gone.jpg"), None, error="missing")]


def record(one: Prediction, breakdown: dict[str, object] | None = None) -> Record:
    scored = {"breakdown": breakdown} if breakdown else None
    return Record(one.position, one.path, one.size, one.detections, one.error, 0, scored)


def report_of(made: list[Prediction], classes: int, *, mining: bool) -> CandidateReport:
    report = CandidateReport(names_of(classes), len(made), mining=mining)
    for one in made:
        report.add(one)
    return report


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(("classes", "boxes"), [(1, 0), (6, 3), (80, 3)])
def test_inference(
    tmp_path: Path, classes: int, boxes: int, caplog: pytest.LogCaptureFixture
) -> None:
    made = predictions(tmp_path / "data", 5, classes, boxes)
    report = report_of(made, classes, mining=False)
    report.write(tmp_path / "out", lambda n: record(made[n]))
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
    scores = [None if one.error else 1 - min(one.position, 30) / 100 for one in made]
    report_of(made, 2, mining=True).write(
        tmp_path / "out",
        lambda n: record(made[n], {"view": "flip", "box": [1, 1, 9, 9]}),
        ranking=range(41),
        scores=scores,
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


def test_groups_of_alike_images(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """0 and 2 begin groups; 1 is like 0, 3 like 1, 4 like 2; 5 is just far enough; 6 was outside
    the window, 7 is unreadable.
    """
    made = predictions(tmp_path / "data", 7, 2, 2)
    near = {0: (1.0, None), 2: (0.5, 0), 1: (0.02, 0), 3: (0.0, 1), 4: (0.0999, 2), 5: (0.1, 2)}
    told = {
        n: {"value": 1.0, "distance": distance} | ({} if other is None else {"nearest": other})
        for n, (distance, other) in near.items()
    }
    order = [*near, 6, 7]
    scores = [None if n == 7 else 1 - order.index(n) / 10 for n in range(8)]
    report_of(made, 2, mining=True).write(
        tmp_path / "out", lambda n: record(made[n], told.get(n)), ranking=order, scores=scores
    )
    assert not caplog.records
    text = read_page_file(tmp_path / "out" / "report.html").text
    assert (
        "The 6 images ranked by distance are 3 groups of alike images (distance below 0.1); 2 have "
        "several images, at most 3."
    ) in text
    assert "k = 7 groups of alike images 3" in text
    shown = text.split("The largest groups of alike images")[-1].split("photo ")[1:]
    assert [int(words.split()[0]) for words in shown] == [0, 1, 3, 2, 4]


def test_nothing_at_all(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    report_of([], 0, mining=True).write(tmp_path, lambda n: None, ranking=[0], scores=[None])
    assert not caplog.records
    text = read_page_file(tmp_path / "report.html").text
    assert "0 images" in text
    assert "How many to label" not in text


def test_a_page_that_fails_is_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "report.html").mkdir()
    report_of([], 1, mining=False).write(tmp_path, lambda n: None)
    assert "report.html could not be made" in caplog.text


def test_a_breakdown_in_words() -> None:
    found = {"view": "cutout", "iou": 0.5, "divergence": 0.125}
    assert breakdown_words(found) == "cutout: IoU 0.50, divergence 0.12"
    assert breakdown_words({"view": "flip", "iou": 0.0}) == "flip: object lost"
