"""SIGTERM: raised once in the block, by force when nobody listens, ordinary in forked processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.conftest import ROOT, TINY_TRAINING
from tools.check_out import check_out
from tools.make_task import write_task
from tools.sources import SourceDataset
from utils.termination import Terminated, terminable


def test_the_block_is_left_once_and_the_old_handler_is_back() -> None:
    before = signal.getsignal(signal.SIGTERM)
    seen = []

    def work() -> None:
        with terminable(lambda: seen.append("force")):
            try:
                os.kill(os.getpid(), signal.SIGTERM)
                time.sleep(60)
            finally:
                os.kill(os.getpid(), signal.SIGTERM)
                seen.append("tidied")

    with pytest.raises(Terminated):
        work()
    assert seen == ["tidied"]
    assert signal.getsignal(signal.SIGTERM) == before


def test_without_a_signal_nothing_happens() -> None:
    with terminable(lambda: pytest.fail("nobody asked")):
        pass


def test_a_block_that_does_not_listen_is_ended_by_force() -> None:
    code = """
import os, signal, time
from utils.termination import terminable
with terminable(lambda: print("by force", flush=True), grace=0.1):
    try:
        os.kill(os.getpid(), signal.SIGTERM)
    except KeyboardInterrupt:
        time.sleep(60)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, check=False)
    assert (done.returncode, done.stdout) == (1, b"by force\n")


def test_the_block_can_be_left_while_a_forked_process_lives() -> None:
    code = """
import os, signal, time
from utils.termination import terminable
with terminable(lambda: None):
    child = os.fork()
    if child == 0:
        time.sleep(600)
        os._exit(0)
os.kill(child, signal.SIGKILL)
print("left", flush=True)
"""
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, check=False, timeout=120)
    assert done.stdout == b"left\n"


def test_a_forked_process_ends_as_ever() -> None:
    with terminable(lambda: None):
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            os.write(writer, b"ready")
            time.sleep(60)
            os._exit(0)
        os.read(reader, 5)
        os.kill(child, signal.SIGTERM)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGTERM


@pytest.mark.slow
def test_a_training_that_is_told_to_stop_goes_on_later(
    drawn: SourceDataset, tmp_path: Path
) -> None:
    settings = {**TINY_TRAINING, "img_size": "64", "epochs": "6", "onnx": "no", "plots": "no"}
    task = tmp_path / "task"
    env_file = write_task(drawn, task, settings=settings)
    command = [sys.executable, "start.py", "--env", str(env_file)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        while not (task / "out/models/result.yaml").exists() and process.poll() is None:
            time.sleep(0.02)
        process.terminate()
        text = process.communicate()[0]
    assert process.returncode == 1
    assert text.splitlines()[-1].startswith("FAILED (160004): the task was told to stop (SIGTERM)")
    assert [finding.rule for finding in check_out(task, failed=True)] == []
    assert subprocess.run(command, cwd=ROOT, stdout=subprocess.DEVNULL, check=False).returncode == 0
    assert check_out(task) == []
