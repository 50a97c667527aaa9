"""Lines about progress: one in ten seconds at most, every other line always."""

from __future__ import annotations

import logging

import pytest

from utils.logs import PROGRESS, Pace, ShareDone, duration


class Hands:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def record(**extra: object) -> logging.LogRecord:
    made = logging.LogRecord("x", logging.INFO, "f", 1, "m", None, None)
    vars(made).update(extra)
    return made


def test_progress_comes_every_ten_seconds_and_the_rest_always() -> None:
    clock = Hands()
    pace = Pace(clock=clock)
    shown = []
    for second in range(35):
        clock.now = 100.0 + second
        if pace.filter(record(**PROGRESS)):
            shown.append(second)
        assert pace.filter(record())
    assert shown == [0, 10, 20, 30]


def test_a_terminal_sees_everything() -> None:
    pace = Pace(patient=True, clock=Hands())
    assert all(pace.filter(record(**PROGRESS)) for _ in range(3))


def test_the_share_that_is_done(caplog: pytest.LogCaptureFixture) -> None:
    clock = Hands()
    share = ShareDone(logging.getLogger("share"), clock=clock)
    with caplog.at_level(logging.INFO):
        for second, fraction in ((10, 0.1), (30, 0.01), (40, 0.2), (90, 0.5), (200, 1.0)):
            clock.now = 100.0 + second
            share.tell(fraction)
    assert [r.getMessage() for r in caplog.records] == [
        "1% done in 30 s",
        "50% done in 1 min 30 s, about 1 min 30 s to go",
    ]
    assert all(r.about_progress for r in caplog.records)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0 s"), (59.4, "59 s"), (60, "1 min 0 s"), (3599, "59 min 59 s"), (7830, "2 h 10 min")],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text
