"""Programs in two processes: success, an error in one, one that is killed."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.conftest import ROOT
from utils.errors import Code, TaskError
from utils.launch import launch

PROGRAM = """
import os, sys, time
sys.path.insert(0, {root!r})
from utils.errors import Code
from utils.first_error import leave_error
if os.environ["RANK"] == "1":
    {deed}
time.sleep({wait})
"""
FAIL = 'leave_error(Code.DATASET, "no images.", "the trace", environment=os.environ); sys.exit(1)'


def program(folder: Path, deed: str, wait: int) -> list[str]:
    path = folder / "program.py"
    path.write_text(PROGRAM.format(root=str(ROOT), deed=deed, wait=wait))
    return [str(path)]


@pytest.mark.slow
def test_all_end_well(tmp_path: Path) -> None:
    launch(2, program(tmp_path, f"open({str(tmp_path / 'done')!r}, 'w')", 0))
    assert (tmp_path / "done").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("deed", "code", "words"),
    [
        pytest.param(FAIL, Code.DATASET, "no images", id="its own error"),
        pytest.param("os.kill(os.getpid(), 9)", Code.CONTAINER, "process 1 .*SIGKILL", id="killed"),
        pytest.param("sys.exit(5)", Code.CONTAINER, "ended with status 5", id="without a word"),
    ],
)
def test_one_fails_and_all_end_within_thirty_seconds(
    tmp_path: Path, deed: str, code: Code, words: str
) -> None:
    began = time.monotonic()
    with pytest.raises(TaskError, match=words) as caught:
        launch(2, program(tmp_path, deed, 120))
    assert caught.value.code == code
    assert time.monotonic() - began < 30  # the other would sleep for two minutes
