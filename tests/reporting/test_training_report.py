"""The report of a training: when it is written, and that it is complete for any data set."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from datetime import date
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from data.dataset_index import DatasetIndex
from data.images import ORIENTATION_TAG, read_image
from data.report import DataReport
from evaluation.evaluator import Evaluation
from models.checkpoint import CheckpointMetadata
from models.detector import Detector
from models.model_config import read_model_config
from reporting.callbacks import Callback, EpochResult
from reporting.drawing import ACCENT, ALERT, INVENTED, shorten
from reporting.evaluation_report import compare_images, examples_of
from reporting.image_errors import error_tiles, image_errors, ranked
from reporting.page import write_page
from reporting.results_csv import CsvLogger
from reporting.tensorboard import TensorBoardLogger
from reporting.tiles import NAMED_OF_A_CROWD
from reporting.training_page import ReportData, page_context
from reporting.training_report import (
    TrainingReport,
)
from settings.train import TrainSettings
from tests.evaluation.evaluation_example import ODD_NAMES, blind, evaluation, split
from tests.reporting.page_reader import read_page_file
from tools.texts import is_text, page_texts
from utils.environment import VERSION
from utils.official_weights import COCO_START

PICTURES = {
    *("anchors.png", "confusion_matrix.png", "f1_curve.png", "labels.png", "pr_curve.png"),
    *("precision_curve.png", "recall_curve.png", "results.png", "train_batch0.jpg"),
    *("validation.jpg", "worst.jpg", "invented.jpg"),
}


def report_on(folder: Path, index: DatasetIndex) -> TrainingReport:
    read = DataReport("train-index.tsv")
    read.bad_images.add("<img src=x onerror=alert(1)>: not a readable image file")
    data = ReportData(TrainSettings(epochs=3), index, index, "CPU <1 thread>", reports=(read,))
    return TrainingReport(folder, data, TensorBoardLogger(None))


def epoch_end(epoch: int, judged: Evaluation, *callbacks: Callback, best: bool = True) -> None:
    for callback in callbacks:
        callback.on_epoch_end(EpochResult(epoch, [0.1] * 13, judged, best))


def write_all(folder: Path, index: DatasetIndex, judged: Evaluation) -> Path:
    results, report = CsvLogger(folder), report_on(folder, index)
    report.on_train_start(Detector(read_model_config("yolov5n", nc=len(index.class_names))), 64)
    report.on_train_batch_end(0, 0, torch.zeros(2, 3, 64, 64, dtype=torch.uint8), torch.zeros(0, 6))
    epoch_end(0, judged, results, report)
    report.on_train_end(0, judged, [])
    return folder / "report.html"


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(("classes", "judge"), [(6, evaluation), (80, blind)])
def test_the_page_is_complete(
    tmp_path: Path,
    classes: int,
    judge: Callable[..., Evaluation],
    caplog: pytest.LogCaptureFixture,
) -> None:
    index = split(tmp_path / "data", classes=classes)
    page = write_all(tmp_path / "report", index, judge(index))
    assert not caplog.records
    assert {p.name for p in page.parent.iterdir()} == PICTURES | {"report.html", "results.csv"}
    read = read_page_file(page)
    # Figures and a batch of two; pairs of labels and detections; images with missed objects.
    assert len(read.images) == 14 + 2 + 2 * len(index) + (len(index) if judge is blind else 0)
    for name in index.class_names:
        assert name in read.text
    assert "1 of 3 epochs, finished" in read.text
    assert "<img src=x onerror=alert(1)>" in read.text
    assert "CPU <1 thread>" in read.text
    assert page.stat().st_size < 4e6


def test_without_labels(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    index = split(tmp_path / "data", classes=2, boxes=0)
    read = read_page_file(write_all(tmp_path / "report", index, evaluation(index)))
    assert not caplog.records
    assert "No labelled object is missed" in read.text
    assert "Nothing is detected that is not labelled" in read.text
    # Sheets of one strip, which say the same: the files are listed with the model.
    for name in ("worst.jpg", "invented.jpg"):
        assert read_image(tmp_path / "report" / name).shape == (8 + 26 + 12 + 8, 496, 3)


def test_an_early_page_costs_little_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """None in the first seconds; then one, and the next only after fifty times its cost."""
    index, now, written = split(tmp_path / "data", classes=1, images=1), 0.0, []
    monkeypatch.setattr("reporting.training_report.monotonic", lambda: now)
    judged, report = evaluation(index), report_on(tmp_path, index)

    def write() -> None:
        nonlocal now
        written.append(now)
        now += 4

    monkeypatch.setattr(report, "_draw", lambda: None)
    monkeypatch.setattr(report, "_write_page", write)
    for epoch, time in enumerate((10, 60, 70, 250, 300, 400)):
        now = max(now, time)
        epoch_end(epoch, judged, report, best=epoch != 4)
    assert written == [60, 400]


def test_a_figure_that_fails_is_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("no font")

    monkeypatch.setattr("reporting.class_plots.confusion", fail)
    index = split(tmp_path / "data", classes=1)
    write_all(tmp_path / "report", index, evaluation(index))
    assert [r.levelno for r in caplog.records] == [logging.WARNING]
    assert "no font" in caplog.text


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> ReportData:
    index = split(tmp_path_factory.mktemp("page"), classes=2)
    judged = evaluation(index)
    given = ReportData(TrainSettings(), index, index, "CPU", best=(0, judged), last=(1, judged))
    return replace(given, seconds=(3.0, 5.0))


def page_text(data: ReportData, folder: Path, **change: object) -> str:
    """The page without figures."""
    context = page_context(replace(data, **change), {})  # type: ignore[arg-type]
    figures = ("learning-0", "pr_curve", "f1_curve", "precision_curve", "recall_curve")
    context["figures"] = dict.fromkeys((*figures, "confusion_matrix"), "data:image/png;base64,")
    words = data.settings.language
    page = write_page(folder / "p.html", "training_report.html", language=words, **context)
    return read_page_file(page).text


def test_metrics_on_the_page_are_those_of_the_evaluation(data: ReportData, tmp_path: Path) -> None:
    judged = evaluation(data.train, miss_first=3)
    examples = examples_of(judged, data.train)
    (tmp_path / "best.pt").write_bytes(b"x" * 2_500_000)
    files = (tmp_path / "best.pt", tmp_path / "gone.onnx")
    changed = {"settings": TrainSettings(epochs=3), "examples": examples, "command": "python x.py"}
    text = page_text(data, tmp_path, best=(0, judged), files=files, **changed)
    assert f"{judged.scores.map50:.3f} mAP at IoU 0.5" in text
    assert (
        "18 found (TP), of 24 labelled objects 6 missed (FN) 0 false positives (FP): detected"
        in text
    )
    assert "1 best epoch, of 2 " in text
    assert f"command python x.py written 20{date.today():%y-%m}" in text
    assert f"program ymir-yolov5 {VERSION}" in text
    assert "1. photo 0 <b>.png: 3 of 4 missed" in text
    assert "epochs 3 100 passes over the training set" in text  # a setting that was changed
    assert "best.pt (2.5 MB)" in text
    assert "gone.onnx" not in text
    assert "last 2 0." in text
    text = page_text(data, tmp_path)
    assert "Every setting has its default." in text
    assert "Training report yolov5s, 2 classes, 2 of 100 epochs, not finished when" in text
    assert f"started from random weights: {COCO_START} " in text
    text_of_weights = page_text(data, tmp_path, weights=Path("coco.pt"))
    assert "Training report Network of coco.pt, 2 classes, " in text_of_weights
    assert "time for these epochs 8 s time per epoch 4.0 s (median; 3.0 to 5.0 s)" in text
    # Reported once more, without an epoch of this start: no time is told.
    assert "time for these epochs" not in page_text(data, tmp_path, seconds=())


def test_a_threshold_has_one_form_on_the_page(data: ReportData, tmp_path: Path) -> None:
    """The one of the best F1, in the digits that `conf_thres` takes."""
    judged = evaluation(data.train)
    scores = replace(judged.scores, confidence=0.6251)
    at = replace(judged.at_confidence, false_positives=3)
    text = page_text(data, tmp_path, best=(0, replace(judged, scores=scores, at_confidence=at)))
    assert "A threshold of 0.625, where" in text
    assert "at confidence 0.625, where" in text
    assert "0.62 " not in text


def test_the_page_in_chinese(data: ReportData, tmp_path: Path) -> None:
    judged = evaluation(data.train, miss_first=3)
    given = replace(
        data,
        settings=TrainSettings(language="zh", epochs=3),
        reports=(bad_report(), DataReport("v")),
    )
    text = page_text(given, tmp_path, best=(0, judged), examples=examples_of(judged, data.train))
    assert 'lang="zh"' in (tmp_path / "p.html").read_text("utf-8")
    for words in (
        "训练报告 yolov5s，2 个类别， 已训练 3 个 epoch 中的 2 个， 写此报告时尚未完成",
        "18 检出（TP），共 24 个已标注的目标 6 漏检（FN） 0 误检（FP）：检测到但未标注",
        "1. photo 0 <b>.png: 漏检 3 个，共 4 个",
        "t.tsv 中的例子 a.xml：没有名称",
        "epochs 3 100 遍历训练集的次数",
        "随机权重: 在 160 张浣熊照片上（320 px，hyp: small），从 COCO 权重训练 12 个",
        "每个 epoch 的用时 4.0 秒（中位数；3.0 至 5.0 秒）",
    ):
        assert words in text
    for name in data.train.class_names:  # names of users are never translated
        assert name in text
    english = [text.key for text in page_texts() if is_text(text.key) and "%" not in text.key]
    assert [key for key in english if key in text] == []


def bad_report() -> DataReport:
    report = DataReport("t.tsv")
    report.bad_annotations.count = 1
    report.bad_annotations.examples.append("a.xml: it has no name")
    return report


def test_confused_classes_are_listed(data: ReportData, tmp_path: Path) -> None:
    """Rows are predicted, columns true: of four of class 1, three are predicted as class 0."""
    judged = evaluation(data.train)
    judged.confusion.matrix[:] = [[5, 3, 9], [0, 1, 0], [9, 0, 0]]
    text = page_text(data, tmp_path, best=(0, judged))
    expected = f"share of the true class {ODD_NAMES[1]} {ODD_NAMES[0]} 3 0.750 Images with"
    assert expected in text


def test_of_many_classes_the_weakest_are_listed(data: ReportData, tmp_path: Path) -> None:
    index = split(tmp_path / "data", classes=80, images=8, boxes=20)
    judged = evaluation(index, miss_first=6)
    text = page_text(data, tmp_path, train=index, validation=index, best=(0, judged), last=None)
    weakest = judged.classes.classes[np.argsort(judged.classes.ap[:, 0], kind="stable")][:10]
    listed = text.split("AP50-95 all classes", 1)[1].split("The 10 classes of the lowest")[0]
    places = [listed.index(" ".join(index.class_names[c].split())) for c in weakest]
    assert places == sorted(places)
    assert "All 80 classes" in text


def test_what_changed_since_the_training_of_the_weights(data: ReportData, tmp_path: Path) -> None:
    """Only where the model states its figures; objects by the names of classes."""
    stated = CheckpointMetadata(
        map50=0.5, map50_95=0.25, labelled_images=2, labelled_objects=(3, 9)
    )
    names = (ODD_NAMES[1], "of old")
    started = {"weights": tmp_path / "v1.pt", "before": (stated, names)}
    text = page_text(data, tmp_path, **started)
    scores = data.best[1].scores  # type: ignore[index]
    assert f"mAP50 0.500 {scores.map50:.3f} {scores.map50 - 0.5:+.3f}" in text
    assert "training images 2 6 +4" in text
    assert f"training objects: {ODD_NAMES[0]} 12 " in text
    assert f"training objects: {ODD_NAMES[1]} 3 12 +9" in text
    assert "as v1.pt states it" in text
    assert "and of other classes" in text
    silent = replace(stated, map50=None)
    for before in (None, (silent, names)):
        assert "Since the last" not in page_text(data, tmp_path, **{**started, "before": before})


@pytest.fixture
def mistaken(tmp_path: Path) -> tuple[DatasetIndex, Evaluation]:
    """Four labels an image: of image 0 three are missed, of 1 two, of 2 one; image 3 has two
    inventions, image 4 one.
    """
    index = split(tmp_path / "mistaken", classes=2)
    judged = evaluation(index, miss_first=3)
    detections = dict(judged.detections)
    invented = np.array([[70, 50, 79, 59, 0.6, 0], [70, 2, 79, 9, 0.5, 1]], np.float32)
    detections[3] = np.concatenate([detections[3], invented])
    detections[4] = np.concatenate([detections[4], invented[1:]])
    return index, replace(judged, detections=detections)


def test_images_with_most_errors_come_first(mistaken: tuple[DatasetIndex, Evaluation]) -> None:
    index, judged = mistaken
    errors = image_errors(judged, index)
    missed = [(one.position, one.missed, one.total) for one in ranked(errors, "missed")]
    assert missed == [(0, 3, 4), (1, 2, 4), (2, 1, 4)]
    assert judged.at_confidence.false_negatives == 6
    invented = [(one.position, one.invented, one.total) for one in ranked(errors, "invented")]
    assert invented == [(3, 2, 4), (4, 1, 4)]
    assert image_errors(evaluation(index), index) == []


def test_found_missed_and_invented_have_colours_of_their_own(
    mistaken: tuple[DatasetIndex, Evaluation],
) -> None:
    """What a gallery is about is thick and named; what is invented is dashed, for any eye."""
    index, judged = mistaken
    errors = image_errors(judged, index)
    first = error_tiles(ranked(errors, "missed"), judged, index, "missed", {})[0]
    assert [(o.colour, o.dashed) for o in first.outlines] == [
        (ACCENT, False),
        *[(ALERT, False)] * 3,
    ]
    assert {label.colour for label in first.labels} == {ALERT}
    assert first.caption == "1. photo 0 <b>.png: 3 of 4 missed"
    first = error_tiles(ranked(errors, "invented"), judged, index, "invented", {})[0]
    colours = [(o.colour, o.dashed) for o in first.outlines]
    assert colours == [*[(ACCENT, False)] * 4, *[(INVENTED, True)] * 2]
    assert [label.text[-4:] for label in first.labels] == ["0.60", "0.50"]
    assert first.caption == "1. photo 3 <b>.png: 2 false positives, 4 labelled"


@pytest.mark.parametrize(("images", "tiles"), [(1, 2), (30, 16)])
def test_labels_stand_beside_detections(tmp_path: Path, images: int, tiles: int) -> None:
    index = split(tmp_path, classes=2, images=images)
    shown = compare_images(evaluation(index, miss_first=2), index, {})
    assert len(shown) == tiles
    assert shown[0].caption.endswith(": 4 labels")
    assert shown[1].caption.endswith(": 2 detections")


def test_original_names_stand_in_captions_and_tables(
    mistaken: tuple[DatasetIndex, Evaluation], data: ReportData, tmp_path: Path
) -> None:
    """The whole name and that of the file are under the pointer."""
    index, judged = mistaken
    names = {path: f"holiday/{n}.jpg" for n, path in enumerate(index.paths)}
    examples = examples_of(judged, index, names)
    assert examples.missed_tiles[0].caption == "1. holiday/0.jpg: 3 of 4 missed"
    assert examples.invented_tiles[0].title == "holiday/3.jpg (photo 3 <b>.png)"
    assert examples.compared[0].caption == "holiday/0.jpg: 4 labels"
    text = page_text(data, tmp_path, best=(0, judged), examples=examples)
    assert "file original name missed (FN) labelled" in text
    assert f"{index.paths[0]} holiday/0.jpg 3 4" in text
    assert 'title="holiday/0.jpg (photo 0 &lt;b&gt;.png)"' in (tmp_path / "p.html").read_text()


def test_errors_of_a_crowd_have_thin_lines_and_few_names(tmp_path: Path) -> None:
    """The rare class is named first."""
    index = split(tmp_path, classes=2, images=1, boxes=30)
    classes = np.array([0] * 29 + [1])
    index = replace(index, instances=replace(index.instances, classes=classes))
    judged = evaluation(index, miss_first=30)
    (tile,) = examples_of(judged, index).missed_tiles
    assert len(tile.labels) == len(tile.outlines) == 30
    assert {one.thickness for one in tile.outlines} == {2}
    assert [one.text for one in tile.labels[:3]] == [
        *map(shorten, ODD_NAMES[:2]), shorten(ODD_NAMES[0])
    ]  # fmt: skip
    assert 1 <= sum(tile.clear) <= NAMED_OF_A_CROWD


def test_a_file_that_is_gone_is_left_out(tmp_path: Path) -> None:
    index = split(tmp_path, classes=2, images=2)
    Path(index.paths[0]).unlink()
    judged = evaluation(index, miss_first=4)
    assert len(compare_images(judged, index, {})) == 2
    assert len(examples_of(judged, index).missed_tiles) == 1


@pytest.mark.parametrize("upright", [False, True])
def test_a_turned_photograph_is_shown_as_its_boxes_lie(tmp_path: Path, upright: bool) -> None:
    index = replace(split(tmp_path, classes=1, images=1), upright=upright)
    exif = Image.Exif()
    exif[ORIENTATION_TAG] = 6
    Image.new("RGB", (80, 60)).save(index.paths[0], exif=exif)
    judged = evaluation(index, miss_first=4)
    examples = examples_of(judged, index)
    tiles = [*examples.compared, *examples.missed_tiles]
    assert {tile.image.shape for tile in tiles} == {(80, 60, 3) if upright else (60, 80, 3)}
