"""What a training leaves to look at: when it is written, and that it is whole for any data set."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from data.dataset_index import DatasetIndex
from data.images import read_image
from data.report import DataReport
from evaluation.evaluator import Evaluation
from models.detector import Detector
from models.model_config import read_model_config
from reporting.callbacks import Callback, EpochResult
from reporting.results_csv import CsvLogger
from reporting.tensorboard import TensorBoardLogger
from reporting.training_page import ReportData
from reporting.training_report import TrainingReport
from settings.train import TrainSettings
from tests.evaluation.evaluation_example import ODD_NAMES, blind, evaluation, split
from tests.reporting.page_reader import read_page_file

PICTURES = {
    "anchors.png",
    "confusion_matrix.png",
    "f1_curve.png",
    "labels.png",
    "pr_curve.png",
    "precision_curve.png",
    "recall_curve.png",
    "results.png",
    "train_batch0.jpg",
    "validation.jpg",
    "worst.jpg",
}


class Clock:
    """Time that passes when told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def story(index: DatasetIndex, **settings: object) -> ReportData:
    report = DataReport("train-index.tsv")
    report.bad_images.add("<img src=x onerror=alert(1)>: not a readable image file")
    chosen = TrainSettings(epochs=3, **settings)  # type: ignore[arg-type]
    return ReportData(chosen, index, index, "CPU <1 thread>", reports=(report,))


def write_all(folder: Path, index: DatasetIndex, judged: Evaluation) -> Path:
    clock, results = Clock(), CsvLogger(folder)
    report = report_on(folder, index, clock)
    report.on_train_start(Detector(read_model_config("yolov5n", nc=len(index.class_names))), 64)
    report.on_train_batch_end(0, 0, torch.zeros(2, 3, 64, 64, dtype=torch.uint8), torch.zeros(0, 6))
    epoch_end(0, judged, results, report)
    report.on_train_end(0, judged, [])
    return folder / "report.html"


def report_on(folder: Path, index: DatasetIndex, clock: Clock) -> TrainingReport:
    return TrainingReport(folder, story(index), TensorBoardLogger(None), clock=clock)


def epoch_end(epoch: int, judged: Evaluation, *callbacks: Callback, best: bool = True) -> None:
    for callback in callbacks:
        callback.on_epoch_end(EpochResult(epoch, [0.1] * 13, judged, best))


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("classes", [1, 6, 80])
@pytest.mark.parametrize("judge", [evaluation, blind])
def test_the_page_is_whole(
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
    # Confusion, labels, anchors and a batch; pairs of labels and detections; worst images.
    assert len(read.images) == 4 + 2 * len(index) + (len(index) if judge is blind else 0)
    for name in index.class_names:
        assert name in read.text
    assert "<img src=x onerror=alert(1)>" in read.text
    assert "CPU <1 thread>" in read.text
    assert page.stat().st_size < 8e6


def test_without_labels(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    index = split(tmp_path / "data", classes=2, boxes=0)
    read = read_page_file(write_all(tmp_path / "report", index, evaluation(index)))
    assert not caplog.records
    assert "No labelled object is missed" in read.text
    assert "nothing to show" in read.text
    # A picture of one strip, which says the same: the file is listed with the model.
    assert read_image(str(tmp_path / "report" / "worst.jpg")).shape == (40, 332, 3)


def test_figures_on_the_page_are_those_of_the_evaluation(tmp_path: Path) -> None:
    index = split(tmp_path / "data", classes=2)
    judged = evaluation(index, miss_first=3)
    text = read_page_file(write_all(tmp_path / "report", index, judged)).text
    assert f"{judged.scores.map50:.3f} mAP at IoU 0.5" in text
    assert "18 of 24 objects found at confidence 0.25" in text
    assert "1. photo 0 <b>.png: 3 of 4 missed" in text
    assert "epochs 3 100 passes over the training set" in text  # a setting that was changed
    assert ODD_NAMES[1] in text


def test_an_early_page_costs_little_time(tmp_path: Path) -> None:
    """Nothing in the first seconds; then a page, and the next only after fifty times its cost."""
    index = split(tmp_path / "data", classes=1, images=1)
    judged, clock, written = evaluation(index), Clock(), []
    results, report = CsvLogger(tmp_path / "report"), report_on(tmp_path / "report", index, clock)

    def write() -> None:
        written.append(clock.now)
        clock.now += 4

    report._page = write  # type: ignore[method-assign]
    for epoch, now in enumerate((10, 60, 70, 250, 300, 400)):
        clock.now = max(clock.now, now)
        epoch_end(epoch, judged, results, report, best=epoch != 4)
    assert written == [60, 400]


def test_an_early_page_says_so(tmp_path: Path) -> None:
    index, clock = split(tmp_path / "data", classes=1), Clock()
    results, report = CsvLogger(tmp_path / "report"), report_on(tmp_path / "report", index, clock)
    clock.now = 100
    epoch_end(0, evaluation(index), results, report)
    text = read_page_file(tmp_path / "report" / "report.html").text
    assert "1 of 3 epochs, not finished when this was written" in text
    report.on_train_end(0, evaluation(index), [])
    assert "1 of 3 epochs, finished" in read_page_file(tmp_path / "report" / "report.html").text


def test_a_drawing_that_fails_costs_a_warning_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("no font")

    monkeypatch.setattr("reporting.training_report.draw_confusion", fail)
    index = split(tmp_path / "data", classes=1)
    write_all(tmp_path / "report", index, evaluation(index))
    assert [r.levelno for r in caplog.records] == [logging.WARNING]
    assert "no font" in caplog.text
