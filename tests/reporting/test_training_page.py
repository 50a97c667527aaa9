from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from reporting.results_csv import CsvLogger
from reporting.training_page import ReportData, training_page
from settings.train import TrainSettings
from tests.evaluation.evaluation_example import ODD_NAMES, evaluation, split
from tests.reporting.page_reader import read_page


def page_text(tmp_path: Path, **change: object) -> str:
    index = split(tmp_path / "data", classes=2)
    CsvLogger(tmp_path, [[0, *[0.1] * 13], [1, *[0.2] * 13]])
    judged = evaluation(index)
    data = ReportData(TrainSettings(), index, index, "CPU", best=(0, judged), last=(1, judged))
    data = replace(data, **{"seconds": (3.0, 5.0), **change})  # type: ignore[arg-type]
    return read_page(training_page(data, tmp_path).render()).text


def test_both_stages_are_listed(tmp_path: Path) -> None:
    (tmp_path / "best.pt").write_bytes(b"x" * 2_500_000)
    text = page_text(tmp_path, files=(tmp_path / "best.pt", tmp_path / "gone.onnx"))
    assert "best.pt (2.5 MB)" in text
    assert "gone.onnx" not in text
    assert "last 2 0." in text


def test_default_settings_are_said_to_be_so(tmp_path: Path) -> None:
    assert "Every setting has its default." in page_text(tmp_path)


def test_what_is_taken_for_what(tmp_path: Path) -> None:
    """Rows are predicted, columns true: of four of class 1, three are taken for class 0."""
    judged = evaluation(split(tmp_path / "data", classes=2))
    judged.confusion.matrix[:] = [[5, 3, 9], [0, 1, 0], [9, 0, 0]]
    text = page_text(tmp_path, best=(0, judged))
    expected = f"share of the true class {ODD_NAMES[1]} {ODD_NAMES[0]} 3 0.750 Images that miss"
    assert expected in text


def test_of_many_classes_the_weakest_are_listed(tmp_path: Path) -> None:
    index = split(tmp_path / "data", classes=80, images=8, boxes=20)
    judged = evaluation(index, miss_first=6)
    text = page_text(tmp_path, train=index, validation=index, best=(0, judged), last=None)
    weakest = judged.classes.classes[np.argsort(judged.classes.ap[:, 0], kind="stable")][:10]
    listed = text.split("AP50-95 all classes", 1)[1].split("Listed are the 10 classes")[0]
    places = [listed.index(" ".join(index.class_names[c].split())) for c in weakest]
    assert places == sorted(places)
    assert "All 80 classes" in text


@pytest.mark.parametrize(
    ("seconds", "told"),
    [
        pytest.param((3.0, 5.0), "8.0 s time per epoch 4.0 s (median; 3.0 to 5.0 s)", id="short"),
        pytest.param((60.0, 61.0), "2 min 1 s", id="minutes"),
        pytest.param((4000.0, 4000.0), "2 h 13 min", id="hours"),
        pytest.param((), "0.0 s", id="none-yet"),
    ],
)
def test_time_is_told(tmp_path: Path, seconds: tuple[float, ...], told: str) -> None:
    assert f"time for these epochs {told}" in page_text(tmp_path, seconds=seconds)
