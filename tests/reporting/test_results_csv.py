from __future__ import annotations

from pathlib import Path

import pytest

from evaluation.evaluate import no_evaluation
from reporting.callbacks import EpochResult
from reporting.results_csv import COLUMNS, CsvLogger, read_results


def result(epoch: int, values: list[float]) -> EpochResult:
    return EpochResult(epoch, values, no_evaluation(1), best=False)


def test_fields_are_those_of_v7_and_written_at_once(tmp_path: Path) -> None:
    """Right-aligned in 20 characters, five significant digits."""
    logger = CsvLogger(tmp_path)
    assert list(read_results(logger.path).columns) == list(COLUMNS)
    logger.on_epoch_end(result(7, [0.0123456789, 1e-7, float("nan"), *[0.5] * 10]))
    heading, line = logger.path.read_text().splitlines()
    assert heading.split(",") == [f"{name:>20}" for name in COLUMNS]
    texts = ("7", "0.012346", "1e-07", "nan", "0.5")
    assert line.split(",")[:5] == [f"{text:>20}" for text in texts]
    assert read_results(logger.path).iloc[0].tolist()[-3:] == [0.5, 0.5, 0.5]


@pytest.mark.parametrize("split", [1, 2])
def test_a_resumed_run_continues_the_file(tmp_path: Path, split: int) -> None:
    values = [[0.1 * n + epoch / 3 for n in range(13)] for epoch in range(4)]
    whole = CsvLogger(tmp_path / "whole")
    for epoch in range(4):
        whole.on_epoch_end(result(epoch, values[epoch]))
    resumed = CsvLogger(tmp_path / "parts", [[n, *values[n]] for n in range(split)])
    for epoch in range(split, 4):
        resumed.on_epoch_end(result(epoch, values[epoch]))
    assert resumed.path.read_text() == whole.path.read_text()
