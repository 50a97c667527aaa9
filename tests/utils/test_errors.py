from __future__ import annotations

import logging

import pytest

from utils.errors import best_effort

log = logging.getLogger("by-product")


def test_a_failure_is_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    with best_effort("the picture", log):
        raise ValueError("no room")
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "the picture could not be made (ValueError: no room)" in record.getMessage()


def test_whoever_stops_the_task_stops_it() -> None:
    with pytest.raises(KeyboardInterrupt), best_effort("the picture", log):
        raise KeyboardInterrupt


def test_success_says_nothing(caplog: pytest.LogCaptureFixture) -> None:
    with best_effort("the picture", log):
        pass
    assert not caplog.records
