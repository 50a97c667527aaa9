"""How commands end."""

from __future__ import annotations

import logging
import os
import subprocess
import sys

import pytest

from tests.conftest import ROOT
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


ENDING = """
import atexit
from utils.command_line import leave
class Interpreter:
    def __del__(self):
        print("end of the interpreter")
interpreter = Interpreter()
atexit.register(print, "exit handler")
print("work", end=", ")
leave(3)
"""


@pytest.mark.parametrize(
    ("world", "told"),
    [("1", "work, exit handler\nend of the interpreter\n"), ("2", "work, exit handler\n")],
)
def test_one_of_several_is_spared_the_end_of_the_interpreter(world: str, told: str) -> None:
    launched = {"RANK": "1", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "here"}
    ended = subprocess.run(
        [sys.executable, "-c", ENDING],
        cwd=ROOT,
        env={**os.environ, **launched, "WORLD_SIZE": world},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (3, told, "")
