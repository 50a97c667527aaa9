"""SIGTERM for whole tasks that do not want to end: valid outputs, the code, no process left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.conftest import ROOT, TINY_TRAINING
from tests.killing_example import process_of_rank, processes_below, wait_for
from tools.check_out import check_out
from tools.make_task import write_task
from tools.sources import SourceDataset
from utils.errors import Code

SETTINGS = {**TINY_TRAINING, "img_size": "64", "epochs": "6", "onnx": "no", "plots": "no"}
SAID = "FAILED (160004): the task was told to stop (SIGTERM)"
PROGRAM = """
import atexit, ctypes, os, runpy, signal, sys, threading, time
import tasks, train
from utils import shutdown as termination
termination.ShutdownHandler.__init__.__kwdefaults__.update(grace={grace})
def deadlock():
    mutex, library = ctypes.create_string_buffer(64), ctypes.CDLL(None)
    library.pthread_mutex_lock(mutex)
    print("HERE", flush=True)
    library.pthread_mutex_lock(mutex)
def after_first_epoch(do):
    whole = train.keep_state
    def kept(run, epoch, keeper):
        state = whole(run, epoch, keeper)
        do()
        return state
    train.keep_state = kept
{prepare}
sys.argv = ["start.py", "--env", sys.argv[1]]
runpy.run_path("start.py", run_name="__main__")
"""
"""start.py as a program, where `prepare` has put something in its way; HERE is when to send."""


@contextmanager
def running(env_file: Path, prepare: str, grace: float = 1.0) -> Iterator[subprocess.Popen[str]]:
    """The program; whatever becomes of the test, it ends."""
    command = [sys.executable, "-c", PROGRAM.format(prepare=prepare, grace=grace), str(env_file)]
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def read_until(process: subprocess.Popen[str], word: str) -> str:
    """The output up to the line with a word."""
    assert process.stdout is not None
    text = ""
    for line in process.stdout:
        text += line
        if word in line:
            return text
    raise AssertionError(f"{word} never came: {text}")


def lives(process: int) -> bool:
    """Whether a process is there and more than what nobody has waited for yet."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def record(task: Path) -> list[str]:
    return (task / "out" / "monitor.txt").read_text("utf-8").split("\n")[0].split("\t")


def findings(task: Path, *, failed: bool) -> list[str]:
    return [f"{one.rule}: {one.sentence}" for one in check_out(task, failed=failed)]


STUBBORN = {
    "a main thread in C": "after_first_epoch(deadlock)",
    "a main thread in its tidying": """
def asleep():
    try:
        print("HERE", flush=True)
        time.sleep(600)
    finally:
        time.sleep(600)
after_first_epoch(asleep)
""",
    "a main thread that writes": """
import utils.atomic
whole = os.fsync
def hang(fd):
    alone = threading.current_thread() is threading.main_thread()
    if alone and "monitor" in os.readlink(f"/proc/self/fd/{fd}") and os.path.exists("STATE"):
        deadlock()
    whole(fd)
os.fsync = hang
""",
    "a child that ignores the signal": """
def fork():
    child = os.fork()
    if child == 0:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        print("HERE", flush=True)
        time.sleep(600)
    try:
        os.waitpid(child, 0)
    finally:
        os.waitpid(child, 0)
after_first_epoch(fork)
""",
    "exit handlers": """
def here():
    atexit.register(time.sleep, 600)
    print("HERE", flush=True)
    time.sleep(600)
after_first_epoch(here)
""",
    "a thread": """
def here():
    threading.Thread(target=time.sleep, args=(600,)).start()
    print("HERE", flush=True)
    time.sleep(600)
after_first_epoch(here)
""",
}


@pytest.mark.slow
@pytest.mark.parametrize("prepare", STUBBORN.values(), ids=STUBBORN)
def test_a_training_that_hangs_leaves_a_valid_result(
    drawn: SourceDataset, tmp_path: Path, prepare: str
) -> None:
    task = tmp_path / "task"
    env_file = write_task(drawn, task, settings={**SETTINGS, "workers": "2"})
    state = task / "out/models/last/last.state"
    with running(env_file, prepare.replace("STATE", str(state))) as process:
        text = read_until(process, "HERE")
        family = processes_below(process.pid)
        process.terminate()
        text += process.communicate(timeout=120)[0]
    assert process.returncode == 1, text
    assert text.count(SAID) == 1
    assert record(task)[3:5] == ["4", str(int(Code.CONTAINER))]
    assert findings(task, failed=True) == []
    assert (task / "out/models/result.yaml").exists()
    assert family  # worker processes, at least
    assert wait_for(lambda: not any(map(lives, family)), 10)
    command = [sys.executable, "start.py", "--env", str(env_file)]
    assert subprocess.run(command, cwd=ROOT, stdout=subprocess.DEVNULL, check=False).returncode == 0
    assert findings(task, failed=False) == []


@pytest.mark.slow
def test_an_end_that_hangs_after_everything_is_written(
    drawn: SourceDataset, weights: Path, tmp_path: Path
) -> None:
    task = tmp_path / "task"
    env_file = write_task(
        drawn, task, kinds=("infer",), settings={"img_size": "64"}, weights=[weights], limit=2
    )
    prepare = """
whole = tasks.run
def run(*words):
    atexit.register(deadlock)
    whole(*words)
tasks.run = run
"""
    with running(env_file, prepare) as process:
        text = read_until(process, "HERE")
        process.terminate()
        text += process.communicate(timeout=120)[0]
    assert process.returncode == 0, text
    assert "FAILED" not in text
    assert findings(task, failed=False) == []


@pytest.mark.slow
@pytest.mark.parametrize("grace", [60.0, 0.1], ids=["they end", "they take too long"])
def test_told_while_everything_is_still_being_imported(
    drawn: SourceDataset, tmp_path: Path, grace: float
) -> None:
    prepare = """
del sys.modules["tasks"]
class Slow:
    def find_spec(self, name, *rest):
        if name == "tasks":
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(2)
sys.meta_path.insert(0, Slow())
"""
    task = tmp_path / "task"
    env_file = write_task(drawn, task, settings=SETTINGS)
    with running(env_file, prepare, grace) as process:
        text = process.communicate(timeout=120)[0]
    assert process.returncode == 1
    assert SAID in text.splitlines()[-1]
    assert findings(task, failed=True) == []


@pytest.mark.slow
def test_a_rank_that_does_not_listen_is_ended(drawn: SourceDataset, tmp_path: Path) -> None:
    """Torch's own launcher would wait 30 seconds for it."""
    task = tmp_path / "task"
    env_file = write_task(drawn, task, settings={**SETTINGS, "epochs": "60", "workers": "1"})
    state = task / "out/models/last/last.state"
    with running(env_file, "tasks.processes_for = lambda task: 2") as process:
        assert wait_for(lambda: state.exists() or process.poll() is not None, 240)
        deaf = process_of_rank(process.pid, 1)
        assert deaf is not None, process.communicate()[0]
        family = processes_below(process.pid)
        os.kill(deaf, signal.SIGSTOP)
        process.terminate()
        assert process.wait(timeout=120) == 1
        text = process.communicate()[0]
    assert SAID in text
    assert wait_for(lambda: not any(map(lives, family)), 10)
    assert record(task)[3:5] == ["4", str(int(Code.CONTAINER))]
    assert findings(task, failed=True) == []


@pytest.mark.slow
def test_a_training_that_is_told_to_stop_goes_on_later(
    drawn: SourceDataset, tmp_path: Path
) -> None:
    task = tmp_path / "task"
    env_file = write_task(drawn, task, settings=SETTINGS)
    command = [sys.executable, "start.py", "--env", str(env_file)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        result = task / "out/models/result.yaml"
        assert wait_for(lambda: result.exists() or process.poll() is not None, 240)
        process.terminate()
        text = process.communicate()[0]
    assert process.returncode == 1
    assert text.splitlines()[-1].startswith(SAID)
    assert findings(task, failed=True) == []
    assert subprocess.run(command, cwd=ROOT, stdout=subprocess.DEVNULL, check=False).returncode == 0
    assert findings(task, failed=False) == []
