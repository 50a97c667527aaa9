from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pandas as pd

from evaluation.metrics import ap_per_class
from reporting.plots import draw_confusion, draw_learning_curves, draw_precision_recall
from reporting.results_csv import COLUMNS, CsvLogger


def test_every_epoch_is_on_disk_before_the_run_ends(tmp_path: Path) -> None:
    with CsvLogger(tmp_path / "report", tmp_path / "board") as record:
        record.epoch(0, [float(n) for n in range(13)])
        table = pd.read_csv(record.results_csv, skipinitialspace=True)
        assert [name.strip() for name in table.columns] == list(COLUMNS)
        assert table.iloc[0].tolist() == [0.0, *range(13)]
    assert list((tmp_path / "board").glob("events.*"))


def test_pictures_and_figures_can_be_opened(tmp_path: Path) -> None:
    with CsvLogger(tmp_path, None) as record:
        record.picture("batch.jpg", np.full((20, 30, 3), 90, np.uint8))
        record.epoch(0, [0.1] * 13)
        record.epoch(1, [0.2] * 13)
    classes = ap_per_class(
        np.ones((2, 10), bool), np.array([0.9, 0.8]), np.array([0, 1]), np.array([0, 1])
    )
    draw_learning_curves(record.results_csv, tmp_path / "results.png")
    draw_precision_recall(classes, ("a", "b"), tmp_path / "pr.png")
    draw_confusion(np.eye(3), ("a", "b"), tmp_path / "confusion.png")
    for name in ("batch.jpg", "results.png", "pr.png", "confusion.png"):
        picture = cv2.imread(str(tmp_path / name))
        assert picture is not None
        assert picture.std() > 0 or name == "batch.jpg"


def test_figures_of_an_untrained_model(tmp_path: Path) -> None:
    """No detection at all: the curves are empty, not an error."""
    nothing = ap_per_class(np.zeros((0, 10), bool), np.zeros(0), np.zeros(0), np.array([0]))
    draw_precision_recall(nothing, ("a",), tmp_path / "pr.png")
    draw_confusion(np.zeros((2, 2)), ("a",), tmp_path / "confusion.png")
    assert (tmp_path / "pr.png").is_file()


def test_going_on_keeps_every_epoch_once(tmp_path: Path) -> None:
    values = [[0.1 * n + epoch / 3 for n in range(13)] for epoch in range(4)]
    for folder, split in (("whole", 4), ("parts", 2)):
        with CsvLogger(tmp_path / folder, None) as record:
            for epoch in range(split):
                record.epoch(epoch, values[epoch])
    with CsvLogger(tmp_path / "parts", tmp_path / "board", record.rows[:1]) as record:
        for epoch in range(1, 4):  # epoch 1 once more: its state was not written
            record.epoch(epoch, values[epoch])
    whole, parts = (tmp_path / name / "results.csv" for name in ("whole", "parts"))
    assert whole.read_text() == parts.read_text()
    assert record.rows == [[epoch, *values[epoch]] for epoch in range(4)]
