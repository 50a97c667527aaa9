"""SIGTERM: raised once in the block, by force when nobody listens, ordinary in forked processes.

Whatever is told to stop, or forks, is a process of its own: never the one that runs the tests.
"""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from tests.conftest import ROOT, what_waits
from utils.shutdown import ShutdownHandler

BEGIN = """
import atexit, ctypes, os, signal, sys, threading, time
from utils.shutdown import ShutdownHandler
def tell(): os.kill(os.getpid(), signal.SIGTERM)
def lock(library):
    mutex = ctypes.create_string_buffer(64)
    library.pthread_mutex_lock(mutex)
    library.pthread_mutex_lock(mutex)
deadline = ShutdownHandler(grace=0.3, patience=0.3)
deadline.on_timeout = lambda held: os.write(1, b"by force\\n")
"""


def run(code: str) -> tuple[int, str]:
    """Exit status and output of a program that must not last."""
    command = [sys.executable, "-c", BEGIN + code]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120
    )
    return done.returncode, done.stdout


def test_the_block_is_left_once_and_the_old_handler_is_back() -> None:
    code = """
before = signal.getsignal(signal.SIGTERM)
try:
    with deadline.interruptible():
        try:
            tell()
            time.sleep(60)
        finally:
            tell()
            print("tidied", flush=True)
except KeyboardInterrupt:
    print("left", signal.getsignal(signal.SIGTERM) == before, flush=True)
time.sleep(1)  # longer than a deadline that had stayed
print(threading.active_count(), signal.set_wakeup_fd(-1))
"""
    assert run(code) == (0, "tidied\nleft True\n1 -1\n")


def test_without_a_signal_nothing_happens() -> None:
    deadline = ShutdownHandler(grace=0)
    deadline.on_timeout = lambda held: pytest.fail("nobody asked")
    with deadline.interruptible():
        pass
    assert deadline.settle(0) == 0
    assert deadline.settle(1) == 0  # settled is settled


def test_what_waits_is_noticed_until_it_is_left() -> None:
    before = what_waits()
    with ShutdownHandler().interruptible():
        assert all(now != then for now, then in zip(what_waits()[:3], before[:3], strict=True))
    assert what_waits() == before


HANGS = {
    "in the tidying": "time.sleep(60)",
    "in C": "lock(ctypes.CDLL(None))",
    "in Python that catches all": "while True:\n            try: time.sleep(60)\n"
    "            except BaseException: pass",
}


@pytest.mark.parametrize("hang", HANGS.values(), ids=HANGS)
def test_a_block_that_does_not_end_is_ended_by_force(hang: str) -> None:
    code = f"""
with deadline.interruptible():
    try:
        tell()
        time.sleep(60)
    except KeyboardInterrupt:
        {hang}
"""
    assert run(code) == (1, "by force\n")


def test_one_that_never_hears_it() -> None:
    code = """
threading.Timer(0.2, tell).start()
deadline.until_the_end()
lock(ctypes.CDLL(None))
"""
    assert run(code) == (1, "by force\n")


def test_one_that_never_gives_the_interpreter_back_ends_without_a_word() -> None:
    code = """
deadline.until_the_end()
tell()
time.sleep(0.1)
lock(ctypes.PyDLL(None))
"""
    assert run(code) == (1, "")


def test_a_signal_before_the_block_is_raised_in_it() -> None:
    code = """
deadline.until_the_end()
tell()
print("still there", flush=True)
try:
    with deadline.interruptible():
        print("never", flush=True)
except KeyboardInterrupt:
    print("raised", flush=True)
deadline.settle(1)
"""
    assert run(code) == (1, "still there\nraised\n")


@pytest.mark.parametrize("status", [0, 1, 3])
@pytest.mark.parametrize(
    "ending",
    [
        pytest.param("atexit.register(time.sleep, 60)", id="an exit handler"),
        pytest.param("threading.Thread(target=time.sleep, args=(60,)).start()", id="a thread"),
        pytest.param("atexit.register(lock, ctypes.CDLL(None))", id="an exit handler in C"),
    ],
)
def test_an_end_that_hangs_keeps_its_status(status: int, ending: str) -> None:
    code = f"""
deadline.until_the_end()
{ending}
with deadline.interruptible():
    pass
assert deadline.settle({status}) == {status}
print("settled", flush=True)
tell()
"""
    assert run(code) == (status, "settled\n")


def test_the_end_of_the_interpreter_is_spared_and_what_was_printed_is_not() -> None:
    code = """
deadline.until_the_end()
class Late:
    def __del__(self): time.sleep(60)
late = Late()
atexit.register(print, "exit handlers run")
print("no line end", end=" ")
deadline.settle(4)
"""
    assert run(code) == (4, "no line end exit handlers run\n")


def test_what_is_not_settled_ends_as_ever() -> None:
    assert run("deadline.until_the_end()\nsys.exit(2)") == (2, "")


def test_last_words_that_hang_are_not_waited_for() -> None:
    code = """
deadline.on_timeout = lambda held: time.sleep(60)
deadline.until_the_end()
tell()
time.sleep(60)
"""
    assert run(code) == (1, "")


def test_after_last_words_nothing_is_settled_any_more() -> None:
    code = """
def speak(held):
    print(deadline.settle(0), flush=True)
deadline.on_timeout = speak
deadline.until_the_end()
tell()
time.sleep(60)
"""
    assert run(code) == (1, "1\n")


DEAF = """
reader, writer = os.pipe()
if os.fork() == 0:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    os.write(writer, b"x")
    time.sleep(600)
    os._exit(0)
os.read(reader, 1)
"""
"""A child that ignores the signal; it holds standard output, so `run` would wait for it."""


def test_a_child_that_ignores_the_signal_ends_by_force() -> None:
    code = f"""
deadline.until_the_end()
{DEAF}
deadline.on_timeout = lambda held: print(len(held), "held", flush=True)
tell()
os.wait()
"""
    assert run(code) == (1, "1 held\n")


def test_a_child_that_ignores_the_signal_ends_with_an_orderly_end() -> None:
    code = f"""
deadline.until_the_end()
{DEAF}
try:
    with deadline.interruptible():
        tell()
except KeyboardInterrupt:
    deadline.settle(1)
"""
    assert run(code) == (1, "")


def test_the_block_can_be_left_while_a_forked_process_lives() -> None:
    code = """
with deadline.interruptible():
    child = os.fork()
    if child == 0:
        time.sleep(600)
        os._exit(0)
os.kill(child, signal.SIGKILL)
print("left", flush=True)
"""
    assert run(code) == (0, "left\n")


def test_a_forked_process_ends_as_ever() -> None:
    code = """
reader, writer = os.pipe()
with deadline.interruptible():
    child = os.fork()
    if child == 0:
        os.write(writer, b"ready")
        time.sleep(60)
        os._exit(0)
    os.read(reader, 5)
    os.kill(child, signal.SIGTERM)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
    time.sleep(1)  # the signal was the child's: this one goes on
"""
    assert run(code) == (0, f"{-signal.SIGTERM}\n")
