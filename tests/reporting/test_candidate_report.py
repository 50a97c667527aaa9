from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from inference.journal import Record
from inference.predictor import Prediction
from mining.ranking import Ranking
from reporting.candidate_report import MOST_BOXES, SHOWN, About, CandidateReport, chosen_rows
from reporting.ranking_report import ScoreFall, breakdown_words
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


def record(
    one: Prediction, breakdown: dict[str, object] | None = None, score: float | None = None
) -> Record:
    scored = {"breakdown": breakdown, "score": score} if breakdown else None
    return Record(one.position, one.path, one.size, one.detections, one.error, 0, scored)


def report_of(made: list[Prediction], classes: int, *, mining: bool) -> CandidateReport:
    report = CandidateReport(names_of(classes), mining=mining)
    for one in made:
        report.add(one)
    return report


def ranking_of(scores: list[float | None], note: str = "", **given: Any) -> Ranking:
    """By falling score, the order of equal ones as it is."""
    order = sorted(range(len(scores)), key=lambda n: -(scores[n] if scores[n] is not None else -9))
    return Ranking(scores, order, note=note, **{"own": scores, **given})


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(("classes", "boxes"), [(1, 0), (6, 3), (80, 3)])
def test_inference(
    tmp_path: Path, classes: int, boxes: int, caplog: pytest.LogCaptureFixture
) -> None:
    made = predictions(tmp_path / "data", 5, classes, boxes)
    report = report_of(made, classes, mining=False)
    about = About(rows=[("weights", "best.pt")], settings=[["img_size", "64", "640", "side"]])
    report.write(tmp_path / "out", about=about)
    assert not caplog.records
    read = read_page_file(tmp_path / "out" / "report.html")
    objects = sum(len(one.detections) for one in made)
    assert objects == (9 if boxes else 0)
    assert f"6 images {objects} objects detected" in read.text
    assert f"{1 if boxes else 5} image{'' if boxes else 's'} without detections" in read.text
    assert "1 image that could not be read" in read.text
    assert f"6 images (1 unreadable, {1 if boxes else 5} without objects), " in report.summary()
    assert ("Nothing was detected." in read.text) is not boxes
    for name in names_of(classes):
        assert name in read.text
    assert "weights best.pt" in read.text
    assert "img_size 64 640 side" in read.text
    assert list((tmp_path / "out").glob("events.*"))


def test_examples_go_from_low_to_high_confidence(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """One detection an image, of confidences .3, .4 ... .9; one image has none."""
    made = predictions(tmp_path / "data", 8, 2, 1)
    for n, one in enumerate(made[1:8], start=3):
        one.detections[:, 4] = n / 10
    names = {made[1].path: "holiday.jpg"}
    report = report_of(made[::-1], 2, mining=False)
    report.write(tmp_path / "out", about=About(names=names), sheets=tmp_path, tensorboard=False)
    assert not caplog.records
    text = read_page_file(tmp_path / "out" / "report.html").text
    header = "class detections 0.3–0.5 0.5–0.7 0.7–0.9 0.9–1"
    first, second = names_of(2)
    shown = text.split(header)[1]
    counts = [list(map(int, shown.split(name)[1].split()[:5])) for name in (first, second)]
    assert np.sum(counts, axis=0).tolist() == [7, 2, 2, 2, 1]
    parts = text.split("Detections, from low to high confidence")[-1].split("Images, from low")[0]
    found = [float(value) for value in re.findall(r"(0\.\d\d) [^ ]+: ", parts)]
    assert found == [0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]
    assert "holiday.jpg: 1 detection, 0.30" in text
    assert "photo 0" in text.split("Images without detections")[-1]
    sheets = {path.stem for path in tmp_path.glob("*.jpg")}
    assert sheets == {"detections-low-to-high", "examples", "without"}


def test_a_task_that_mines_and_infers_has_both_parts(tmp_path: Path) -> None:
    made = predictions(tmp_path / "data", 8, 2, 1)
    report = CandidateReport(names_of(2), mining=True, infers=True)
    for one in made:
        report.add(one)
    scores = [None if one.error else 1 - one.position / 10 for one in made]
    report.write(tmp_path, lambda n: record(made[n]), ranking=ranking_of(scores), tensorboard=False)
    text = read_page_file(tmp_path / "report.html").text
    headings = ("Label these first", "How many to label", "Label these last")
    examples = ("Detections, from low to high confidence", "Images, from low to high mean")
    assert all(words in text for words in headings + examples)
    assert "That is a good conf_thres." in text


def test_of_many_confidences_the_examples_reach_the_highest(tmp_path: Path) -> None:
    """33 detections of one image in bins of their own: the lowest and the highest are shown."""
    (made,) = predictions(tmp_path / "data", 2, 1, 1)[1:2]
    values = np.arange(0.16, 0.98, 0.025)
    rows = np.repeat(made.detections, len(values), axis=0)
    rows[:, 4] = values
    report = report_of([replace(made, detections=rows)], 1, mining=False)
    report.write(tmp_path, tensorboard=False)
    text = read_page_file(tmp_path / "report.html").text
    parts = text.split("Detections, from low to high confidence")[-1].split("Images, from low")[0]
    found = [float(value) for value in re.findall(r"(0\.\d\d) [^ ]+: ", parts)]
    assert len(found) == SHOWN
    assert found == sorted(found)
    assert (found[0], found[-1]) == (0.16, 0.96)


def test_mining_shows_both_ends_of_the_ranking(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    made = predictions(tmp_path / "data", 40, 2, 2)
    scores = [None if one.error else 1 - min(one.position, 30) / 100 for one in made]
    names = {made[0].path: "cats/1.jpg"}
    about = About("cald", [("weights", "best.pt")], names=names)
    report_of(made, 2, mining=True).write(
        tmp_path / "out",
        lambda n: record(made[n], {"view": "flip", "box": [1, 1, 9, 9]}),
        ranking=ranking_of(scores),
        about=about,
        sheets=tmp_path,
    )
    assert not caplog.records
    read = read_page_file(tmp_path / "out" / "report.html")
    captions = re.findall(r" (\d+)\. ([^:]+): own score ([\d.]+), flip: nothing", read.text)
    assert [int(rank) for rank, _, _ in captions] == [*range(1, SHOWN + 1), *range(29, 41)]
    assert captions[0][1:] == ("cats/1.jpg", "1.000")
    assert captions[-1][2] == "0.700"
    assert "Ranked by cald. 41 images, 2 classes." in read.text
    assert "1 cats/1.jpg photo 0" in read.text  # the name on the platform stands beside
    # The unreadable image is not among the first 40; image 1 has one object, the others two.
    first, second = names_of(2)
    assert f"images with k = 10 k = 30 k = 40 {first} 9 29 39 {second} 8 28 38" in read.text
    assert "least own score 0.910 0.710 0.700" in read.text
    assert {path.name for path in tmp_path.glob("*.jpg")} == {"first.jpg", "last.jpg"}
    curves = EventAccumulator(str(tmp_path / "out")).Reload()
    points = [(one.step, one.value) for one in curves.Scalars("mining/own_score_by_rank")]
    assert points[:2] == [(1, 1.0), (2, pytest.approx(0.99))]
    assert len(points) == 40
    assert curves.Scalars("mining/classes_in_first_k")[-1].value == 2


def test_how_many_follows_the_own_score_and_not_the_final_one(tmp_path: Path) -> None:
    """The final scores of a window are raised; the own ones fall fast over the first 4."""
    made = predictions(tmp_path / "data", 20, 2, 2)[:20]
    own: list[float | None] = [0.9, 0.8, 0.7, 0.2, *(0.1 - n / 1000 for n in range(16))]
    final = [1.5 + n / 100 if n < 10 else own[n] for n in range(20)]
    ranking = ranking_of(final, own=own)
    assert ranking.order[0] == 9
    report_of(made, 2, mining=True).write(
        tmp_path, lambda n: record(made[n]), ranking=ranking, tensorboard=False
    )
    text = read_page_file(tmp_path / "report.html").text
    assert "The own score falls fast over the first 4 images and slowly after them" in text
    assert "4 to label to begin with" in text
    assert "How many to label" in text


@pytest.mark.parametrize(
    ("own", "words"),
    [
        pytest.param([10 - n for n in range(10)], "falls evenly", id="even"),
        pytest.param([9, *([1] * 8), 0], "falls fast over the first image and", id="early"),
        pytest.param([9, *([8.5] * 8), 0], "stays high over the first 9 images", id="late"),
        pytest.param([0.99] * 5, "Nine of ten own scores lie between 0.99 and 0.99", id="equal"),
        pytest.param([None] * 5, "No image has an own score", id="none"),
    ],
)
def test_how_many_in_words(own: list[float | None], words: str) -> None:
    assert words in " ".join(ScoreFall.of(own).sentences())


def test_where_there_is_no_ranking_the_page_says_so(tmp_path: Path) -> None:
    made = predictions(tmp_path / "data", 5, 2, 0)[:5]
    ranking = ranking_of([1.0, 0.9, 0.8, 0.7, 0.6], note="nothing was found.", own=[None] * 5)
    report_of(made, 2, mining=True).write(
        tmp_path, lambda n: record(made[n]), ranking=ranking, tensorboard=False
    )
    text = read_page_file(tmp_path / "report.html").text
    assert "This is no ranking. Nothing was found." in text
    assert "own score" not in text.split("Detections")[0].split("final score")[0]
    assert "The table counts" not in text  # of classes: there is none
    assert "least own score" not in text


def test_a_page_begins_with_what_matters_and_folds_the_rest(tmp_path: Path) -> None:
    """On a phone a gallery begins with four pictures; what only some readers need is folded."""
    made = predictions(tmp_path / "data", 9, 2, 1)[:9]
    report = CandidateReport(names_of(2), mining=True, infers=True)
    for one in made:
        report.add(one)
    scores: list[float | None] = [1 - n / 10 for n in range(9)]
    report.write(tmp_path, lambda n: record(made[n]), ranking=ranking_of(scores), tensorboard=False)
    html = (tmp_path / "report.html").read_text("utf-8")
    folded = re.findall(r'<details class="section"><summary><h2>([^<]+)</h2>', html)
    assert folded == [
        *("Label these last", "Images, from low to high mean confidence"),
        "Images without detections",
    ]
    parts = re.findall('<div class="gallery">.*?</label>', html, re.DOTALL)
    shown = [re.findall('<figure( class="rest")?>', part) for part in parts]
    assert [n for n, rest in enumerate(shown[0]) if not rest] == [0, 1, 2, 3]

    assert "5 more images" in read_page_file(tmp_path / "report.html").text
    nothing = report_of(
        [replace(one, detections=one.detections[:0]) for one in made], 2, mining=True
    )
    nothing.write(tmp_path, lambda n: None, ranking=ranking_of(scores), tensorboard=False)
    text = read_page_file(tmp_path / "report.html").text
    assert "Nothing was detected. Lower conf_thres" in text
    assert "could not be read" not in text


def test_of_many_detections_those_that_matter_are_drawn() -> None:
    confidences = np.linspace(0.05, 0.95, 19)
    corners = np.arange(19.0)
    rows = np.column_stack([corners, corners, corners + 5, corners + 5, confidences, corners * 0])
    assert chosen_rows(rows[:6], {}) is not None
    assert np.allclose(chosen_rows(rows, {})[:, 4].mean(), 0.5, atol=0.05)
    with_box = chosen_rows(rows, {"box": [18.0, 18, 23, 23]})
    assert len(with_box) == MOST_BOXES
    assert with_box[-1, 4] == pytest.approx(0.95)


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
        tmp_path / "out", lambda n: record(made[n], told.get(n)), ranking=ranking_of(scores)
    )
    assert not caplog.records
    text = read_page_file(tmp_path / "out" / "report.html").text
    assert (
        "Groups of alike images (distance below 0.1) among the 6 images ranked by distance: 3, of "
        "which 2 of several images, at most 3."
    ) in text
    assert "groups of alike images 3" in text
    shown = text.split("The largest groups of alike images")[-1].split("photo ")[1:]
    assert [int(words.split()[0]) for words in shown] == [0, 1, 3, 2, 4]


def test_nothing_at_all(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    report_of([], 0, mining=True).write(tmp_path, lambda n: None, ranking=ranking_of([None]))
    assert not caplog.records
    text = read_page_file(tmp_path / "report.html").text
    assert "0 images" in text
    assert "How many to label" not in text


def test_a_page_that_fails_is_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "report.html").mkdir()
    report_of([], 1, mining=False).write(tmp_path)
    assert "report.html could not be made" in caplog.text


def test_a_breakdown_in_words() -> None:
    found = {"view": "cutout", "iou": 0.5, "divergence": 0.125}
    assert breakdown_words(found) == "cutout: IoU 0.50, divergence 0.12"
    assert breakdown_words({"view": "flip", "iou": 0.0}) == "flip: object lost"
