"""An early end comes after so many epochs without a better one, and says so."""

from __future__ import annotations

import pytest

from training.early_stopping import exhausted, stop_reason


@pytest.mark.parametrize(
    ("epoch", "best", "patience", "ended"),
    [
        pytest.param(0, 0, 1, False, id="the first epoch is the best so far"),
        pytest.param(1, 0, 1, True, id="one epoch without a better one"),
        pytest.param(12, 3, 10, False, id="nine of ten"),
        pytest.param(13, 3, 10, True, id="ten of ten"),
        pytest.param(99, 0, 100, False, id="v7.0's defaults never end a run that only starts well"),
        pytest.param(5000, 0, 0, False, id="0 is never"),
    ],
)
def test_exhausted(epoch: int, best: int, patience: int, ended: bool) -> None:
    assert exhausted(epoch, best, patience) is ended


def test_the_sentence_counts_epochs_from_one() -> None:
    assert stop_reason(13, 300, 3, 10) == (
        "ended after epoch 14 of 300: none of the last 10 epochs was better than epoch 4 "
        "(patience 10)"
    )
