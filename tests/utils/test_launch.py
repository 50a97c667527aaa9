"""Programs in two processes: success, an error in one, one that is killed."""

from __future__ import annotations

import signal
import time
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

import pytest

from tests.conftest import ROOT
from utils import launch as launching
from utils.errors import Code, TaskError
from utils.launch import KilledError, launch, launch_until_done

PROGRAM = """
import os, sys, time
sys.path.insert(0, {root!r})
from utils.errors import Code, write_error_file
if os.environ["RANK"] == "1":
    {deed}
time.sleep({wait})
"""
FAIL = 'write_error_file(Code.DATASET, "no images.", "the trace"); sys.exit(1)'


def program(folder: Path, deed: str, wait: int) -> list[str]:
    path = folder / "program.py"
    path.write_text(PROGRAM.format(root=str(ROOT), deed=deed, wait=wait))
    return [str(path)]


@pytest.mark.slow
def test_all_end_well(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGTERM)
    launch(2, program(tmp_path, f"open({str(tmp_path / 'done')!r}, 'w')", 0))
    assert (tmp_path / "done").exists()
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.slow
@pytest.mark.parametrize(
    ("deed", "code", "words"),
    [
        pytest.param(FAIL, Code.DATASET, "no images", id="its own error"),
        pytest.param(
            "os.kill(os.getpid(), 9)",
            Code.CONTAINER,
            r"process 1 of the mining was killed \(SIGKILL\).*: sleep more",
            id="killed",
        ),
        pytest.param("sys.exit(5)", Code.CONTAINER, "ended with status 5", id="without a word"),
    ],
)
def test_one_fails_and_the_other_is_ended(
    tmp_path: Path, deed: str, code: Code, words: str
) -> None:
    began = time.monotonic()
    with pytest.raises(TaskError, match=words) as caught:
        launch(2, program(tmp_path, deed, 600), what="mining", advice="sleep more")
    assert caught.value.code == code
    assert isinstance(caught.value, KilledError) == ("kill" in deed)
    assert time.monotonic() - began < 300  # the other would sleep for ten minutes


KILLED = KilledError(Code.CONTAINER, "one was killed.")
OTHER = TaskError(Code.DATASET, "no images.")


@pytest.mark.parametrize(
    ("starts", "begun", "end"),
    [
        pytest.param([(1, KILLED), (0, None)], 2, None, id="killed once"),
        pytest.param([(0, KILLED), (0, None)], 2, None, id="killed before anything was done"),
        pytest.param([(0, KILLED), (1, KILLED), (0, KILLED), (1, None)], 4, None, id="often"),
        pytest.param([(1, KILLED), (0, KILLED), (0, KILLED)], 3, KILLED, id="twice for nothing"),
        pytest.param([(1, KILLED), (1, OTHER)], 2, OTHER, id="an error of its own, later"),
    ],
)
def test_started_again_while_something_gets_done(
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    starts: Sequence[tuple[int, TaskError | None]],
    begun: int,
    end: TaskError | None,
) -> None:
    done, calls, waiting = 0, 0, iter(starts)

    def start(count: int, program: Sequence[str], *, what: str, advice: str) -> None:
        nonlocal done, calls
        assert (count, program, what, advice) == (2, ["x"], "mining", "sleep")
        calls += 1
        more, error = next(waiting)
        done += more
        if error:
            raise error

    monkeypatch.setattr(launching, "launch", start)
    with nullcontext() if end is None else pytest.raises(TaskError, match=end.sentence):
        launch_until_done(2, ["x"], done=lambda: done, what="mining", advice="sleep")
    assert calls == begun
    assert caplog.text.count("starting again") == begun - 1
