"""How commands end."""

from __future__ import annotations

import logging

import pytest

from utils.command_line import run_command
from utils.errors import Code, TaskError


def _mistake() -> None:
    raise TaskError(Code.CONFIG, "epochs is 0; it must be 1 or more.")


def _interrupted() -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("command", "status", "told"),
    [
        pytest.param(lambda: None, 0, "", id="done"),
        pytest.param(_mistake, 1, "FAILED: epochs is 0", id="a mistake"),
        pytest.param(_interrupted, 130, "stopped by the keyboard", id="interrupted"),
    ],
)
def test_status_and_sentence(command, status, told, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        assert run_command(command) == status
    assert told in caplog.text


def test_our_own_bugs_keep_their_traceback() -> None:
    with pytest.raises(ZeroDivisionError):
        run_command(lambda: 1 / 0)
