from __future__ import annotations

from pathlib import Path

import pytest

from reporting.results_csv import CsvLogger
from reporting.training_charts import MOST_COLOURS, confidence_charts, learning_charts
from tests.evaluation.evaluation_example import blind, evaluation, names_of, split
from tests.reporting.page_reader import Reader


def text_of(markup: str) -> str:
    reader = Reader()
    reader.feed(markup)
    assert not reader.open
    return reader.text


def test_learning_curves_begin_with_epoch_one(tmp_path: Path) -> None:
    rows = [[epoch, *[0.5 / (epoch + 1)] * 13] for epoch in range(3)]
    charts = learning_charts(CsvLogger(tmp_path, rows).path)
    assert [text_of(one).split(" 0 ")[0] for one in charts[:2]] == ["Box loss", "Objectness loss"]
    for one in charts:
        assert one.count("<path") == 2
        assert " 1 2 3 epoch " in text_of(one)


@pytest.mark.parametrize("classes", [1, MOST_COLOURS, MOST_COLOURS + 1])
def test_a_line_per_class_and_their_mean(tmp_path: Path, classes: int) -> None:
    index = split(tmp_path, classes=classes)
    charts = confidence_charts(evaluation(index).classes, index.class_names)
    assert len(charts) == 4
    for one in charts:
        assert one.count("<path") == classes + 1
        listed = one.split('<div class="legend">')[1].count("<i ")
        assert listed == (classes + 1 if classes <= MOST_COLOURS else 1)


def test_a_blind_network_has_curves_at_zero(tmp_path: Path) -> None:
    charts = confidence_charts(blind(split(tmp_path, classes=2)).classes, names_of(2))
    assert all("nothing to show" not in text_of(one) for one in charts)
