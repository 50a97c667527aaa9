"""SIGTERM: raised once in the block, the end by force if nobody hears it; ends of commands.

Whatever is told to stop, or forks, is a process of its own: never the one that runs the tests.
"""

from __future__ import annotations

import logging
import signal
import subprocess
import sys

import pytest

from tests.conftest import ROOT
from utils.errors import Code, TaskError
from utils.shutdown import run_command

BEGIN = """
import atexit, ctypes, os, signal, sys, threading, time
from utils.shutdown import ShutdownHandler, exit_process
def on_timeout(): os.write(1, b"by force\\n")
handler = ShutdownHandler(lambda: on_timeout(), grace=0.2)
def terminate(process=os.getpid()): os.kill(process, signal.SIGTERM)
def deadlock():
    mutex, library = ctypes.create_string_buffer(64), ctypes.CDLL(None)
    library.pthread_mutex_lock(mutex)
    library.pthread_mutex_lock(mutex)
"""


def run(code: str) -> tuple[int, str]:
    """Return exit status and output of a program that must not last."""
    command = [sys.executable, "-c", BEGIN + code]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    return done.returncode, done.stdout


def test_the_block_is_left_once() -> None:
    code = """
try:
    with handler.interruptible():
        try:
            terminate()
            time.sleep(60)
        finally:
            terminate()
            print("tidied", flush=True)
except KeyboardInterrupt:
    print("left")
exit_process(handler.set_exit_status(3))
"""
    assert run(code) == (3, "tidied\nleft\n")


def test_a_signal_before_the_block_is_raised_in_it() -> None:
    code = """
terminate()
print("still there", flush=True)
try:
    with handler.interruptible():
        print("never")
except KeyboardInterrupt:
    exit_process(handler.set_exit_status(1))
"""
    assert run(code) == (1, "still there\n")


def test_without_a_signal_nothing_happens() -> None:
    assert run("with handler.interruptible(): time.sleep(0.3)\nsys.exit(2)") == (2, "")


HANGS = {
    "while it tidies": "time.sleep(60)",
    "in C": "deadlock()",
    "in Python that catches all": "while True:\n            try: time.sleep(60)\n"
    "            except BaseException: pass",
}


@pytest.mark.parametrize("hang", HANGS.values(), ids=HANGS)
def test_a_block_that_does_not_end_is_ended_by_force(hang: str) -> None:
    code = f"""
with handler.interruptible():
    try:
        terminate()
        time.sleep(60)
    except KeyboardInterrupt:
        {hang}
"""
    assert run(code) == (1, "by force\n")


def test_a_main_thread_that_never_hears_the_signal_is_ended_by_force() -> None:
    assert run("threading.Timer(0.2, terminate).start()\ndeadlock()") == (1, "by force\n")


@pytest.mark.parametrize("status", [0, 3])
def test_an_exit_that_hangs_keeps_the_status_that_was_set(status: int) -> None:
    code = f"""
atexit.register(deadlock)
handler.set_exit_status({status})
terminate()
exit_process({status})
"""
    assert run(code) == (status, "")


def test_after_the_end_by_force_no_other_status_is_set() -> None:
    code = """
def on_timeout(): print(handler.set_exit_status(0), flush=True)
terminate()
time.sleep(60)
"""
    assert run(code) == (1, "1\n")


def test_children_that_ignore_the_signal_stand_still_and_end_with_their_parent() -> None:
    """They hold standard output: `run` would wait for them."""
    code = """
reader, writer = os.pipe()
if os.fork() == 0:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    os.fork()
    os.write(writer, b"%8d" % os.getpid())
    time.sleep(600)
children = [os.read(reader, 8), os.read(reader, 8)]
def is_stopped(child):
    return open(f"/proc/{int(child)}/stat").read().rpartition(")")[2].split()[0] == "T"
def on_timeout():
    while not all(map(is_stopped, children)):
        time.sleep(0.01)
    print(len(children), "stopped", flush=True)
terminate()
os.wait()
"""
    assert run(code) == (1, "2 stopped\n")


def test_a_forked_worker_is_ended_by_the_signal_and_its_parent_is_not() -> None:
    code = """
reader, writer = os.pipe()
with handler.interruptible():
    child = os.fork()
    if child == 0:
        os.write(writer, b"ready")
        time.sleep(60)
    os.read(reader, 5)
    terminate(child)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
    time.sleep(0.5)
"""
    assert run(code) == (0, f"{-signal.SIGTERM}\n")


def test_exit_runs_exit_handlers_and_spares_the_interpreter_its_end() -> None:
    code = """
class Late:
    def __del__(self): print("finalised")
late = Late()
atexit.register(print, "exit handler")
threading.Thread(target=time.sleep, args=(60,)).start()
print("no line end", end=" ")
exit_process(4)
"""
    assert run(code) == (4, "no line end exit handler\n")


def _mistake() -> None:
    raise TaskError(Code.CONFIG, "epochs is 0; it must be 1 or more.")


def _interrupted() -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("command", "status", "message"),
    [
        pytest.param(lambda: None, 0, "", id="done"),
        pytest.param(_mistake, 1, "FAILED: epochs is 0", id="a mistake"),
        pytest.param(_interrupted, 130, "stopped by the keyboard", id="interrupted"),
    ],
)
def test_a_command_has_a_status_and_a_sentence(
    command, status, message, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        assert run_command(command) == status
    assert message in caplog.text


def test_our_own_bugs_keep_their_traceback() -> None:
    with pytest.raises(ZeroDivisionError):
        run_command(lambda: 1 / 0)
