"""Ends of commands: a status and one sentence, no traceback for what a user can cause."""

from __future__ import annotations

import errno
import logging
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import ROOT
from utils.command import resumed_by, run_command
from utils.errors import Code, TaskError
from utils.shutdown import Terminated


def raising(error: BaseException) -> Callable[[], None]:
    def command() -> None:
        raise error

    return command


def stopped_in_a_run() -> None:
    with resumed_by(lambda: "python train.py --resume last.pt"):
        raise KeyboardInterrupt


MISTAKE = TaskError(Code.CONFIG, "epochs is 0; it must be 1 or more.")


@pytest.mark.parametrize(
    ("command", "status", "message"),
    [
        pytest.param(lambda: None, 0, "", id="done"),
        pytest.param(lambda: 3, 3, "", id="a status of its own"),
        pytest.param(raising(MISTAKE), 1, "FAILED: epochs is 0", id="a mistake"),
        pytest.param(
            raising(KeyboardInterrupt()), 130, "by the keyboard: the same command", id="Ctrl-C"
        ),
        pytest.param(raising(Terminated()), 143, "by SIGTERM: the same command", id="SIGTERM"),
        pytest.param(stopped_in_a_run, 130, "with python train.py --resume last.pt", id="resumed"),
        pytest.param(lambda: Path("/proc/x/y").mkdir(), 1, "/proc/x/y cannot be used", id="place"),
        pytest.param(lambda: Path("x" * 300).touch(), 1, "name a shorter one", id="long name"),
        pytest.param(lambda: Path("/").write_text(""), 1, "check what lies there", id="a folder"),
        pytest.param(
            raising(OSError(errno.ENOSPC, "full", "a.txt")), 1, "while writing a.txt", id="full"
        ),
    ],
)
def test_a_command_has_a_status_and_a_sentence(
    command: Callable[[], object], status: int, message: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        assert run_command(command) == status
    assert message in caplog.text
    assert "Traceback" not in caplog.text


@pytest.mark.parametrize("error", [ZeroDivisionError(), OSError(errno.EINVAL, "odd")])
def test_our_own_bugs_keep_their_traceback(error: Exception) -> None:
    with pytest.raises(type(error)):
        run_command(raising(error))


@pytest.mark.parametrize(
    ("code", "status", "words"),
    [
        ("os.kill(os.getpid(), signal.SIGINT)", -2, "stopped by the keyboard"),
        ("os.kill(os.getpid(), signal.SIGTERM)", 1, "stopped by SIGTERM"),
        ("1 / 0", 1, "ZeroDivisionError"),
    ],
    ids=["Ctrl-C", "SIGTERM", "a bug"],
)
def test_a_program_that_is_stopped_while_it_imports(code: str, status: int, words: str) -> None:
    # A shell lets its background jobs ignore Ctrl-C, and what they start inherits that.
    usual = "signal.signal(signal.SIGINT, signal.default_int_handler)"
    early = "from utils.shutdown import listen_for_interrupts; listen_for_interrupts()"
    words_of = [sys.executable, "-c", f"import os, signal; {usual}; {early}; {code}"]
    done = subprocess.run(words_of, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == status
    assert words in done.stderr
    assert ("Traceback" in done.stderr) == (code == "1 / 0")


def test_a_reader_that_goes_away_is_no_error() -> None:
    """As `| head -1`; and a name that is not UTF-8 is written somehow."""
    code = (
        "from utils.command import run_command\n"
        "def main():\n for n in range(100000): print('a\\udcff.jpg', n)\n"
        "raise SystemExit(run_command(main))"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"a\\udcff.jpg 0\n"
        process.stdout.close()
        assert process.wait(60) == 1
        assert process.stderr is not None
        assert process.stderr.read() == b""
