"""Console logging: few lines about progress, no secrets, no carriage return; bars at a terminal."""

from __future__ import annotations

import io
import logging
import sys
from types import SimpleNamespace

import pytest

from utils import logs
from utils.environment import RANK_VARIABLES
from utils.logs import (
    PROGRESS,
    PercentLogger,
    ProgressFilter,
    counted,
    duration,
    log_to_console,
    redact,
)
from utils.progress import progress_bar


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A clock that is set by hand."""
    clock = SimpleNamespace(now=100.0, monotonic=lambda: clock.now)
    monkeypatch.setattr(logs, "time", clock)
    return clock


def test_progress_is_logged_every_ten_seconds_and_the_rest_always(clock: SimpleNamespace) -> None:
    pace, shown = ProgressFilter(), []
    for second in range(35):
        clock.now = 100.0 + second
        if pace.filter(logging.makeLogRecord(PROGRESS)):
            shown.append(second)
        assert pace.filter(logging.makeLogRecord({}))
    assert shown == [0, 10, 20, 30]


def test_the_percentage_done(caplog: pytest.LogCaptureFixture, clock: SimpleNamespace) -> None:
    percent = PercentLogger(logging.getLogger("percent"))
    caplog.set_level(logging.INFO)
    for second, fraction in ((10, 0.1), (30, 0.01), (40, 0.2), (90, 0.5), (200, 1.0)):
        clock.now = 100.0 + second
        percent.on_progress(fraction)
    assert [r.getMessage() for r in caplog.records] == [
        "1% done in 30 s",
        "50% done in 1 min 30 s, about 1 min 30 s left",
    ]
    assert all(r.about_progress for r in caplog.records)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0 s"), (59.4, "59 s"), (60, "1 min 0 s"), (3599, "59 min 59 s"), (7830, "2 h 10 min")],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("number", "text"), [(0, "0 boxes"), (1, "1 box"), (2, "2 boxes"), (12345, "12,345 boxes")]
)
def test_counts(number: int, text: str) -> None:
    assert counted(number, "%s box", "%s boxes") == text


def log_epochs() -> None:
    log_to_console()
    log = logging.getLogger("lines")
    for epoch in progress_bar(range(3), "epochs"):
        log.info("epoch %d", epoch, extra=PROGRESS)
    log.info("from https://me:word@host/x\rend")


def test_a_log_has_one_line_about_progress_no_bar_and_no_secret(
    capsys: pytest.CaptureFixture[str],
) -> None:
    log_epochs()
    lines, errors = capsys.readouterr()
    assert [line.split(" ", 1)[1] for line in lines.splitlines()] == [
        "epoch 0",
        "from https://***@host/x end",
    ]
    assert "\r" not in lines
    assert errors == ""


class Terminal(io.TextIOWrapper):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("rank", ["0", "1"])
def test_a_terminal_has_every_line_and_on_rank_0_a_bar(
    monkeypatch: pytest.MonkeyPatch, rank: str
) -> None:
    for name in (*RANK_VARIABLES, "MASTER_ADDR"):
        monkeypatch.setenv(name, rank if name in ("RANK", "LOCAL_RANK") else "2")
    out, errors = io.BytesIO(), io.BytesIO()
    monkeypatch.setattr(sys, "stdout", Terminal(out))
    monkeypatch.setattr(sys, "stderr", Terminal(errors))
    log_epochs()
    sys.stderr.flush()
    assert [f"epoch {number}" in out.getvalue().decode() for number in range(3)] == [True] * 3
    assert ("epochs:" in errors.getvalue().decode()) == (rank == "0")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("https://me:word@host/x.git", "https://***@host/x.git"),
        ("clone http://tok3n@host:80/a b", "clone http://***@host:80/a b"),
        ("token=abc&x=1", "token=***&x=1"),
        ("{'password': 'a1', 'x': 2}", "{'password': '***', 'x': 2}"),
        ("AWS_SECRET_ACCESS_KEY=ab/c+d", "AWS_SECRET_ACCESS_KEY=***"),
        ("the setting api_key is 'abc'; it must be", "the setting api_key is '***'; it must be"),
        ("Authorization: Bearer abcdefgh.ijk", "Authorization: Bearer ***"),
        ("https://host/path@2x.png", "https://host/path@2x.png"),
        ("epoch 3/10  box 0.0412  mAP50 0.613", "epoch 3/10  box 0.0412  mAP50 0.613"),
        ("the setting epochs is 'many'", "the setting epochs is 'many'"),
        ("mail me@host.example", "mail me@host.example"),
    ],
)
def test_secrets_are_redacted_and_nothing_else(text: str, expected: str) -> None:
    assert redact(text) == expected
