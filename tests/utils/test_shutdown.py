"""SIGTERM: raised once in the block, the end by force if nobody hears it.

Whatever is told to stop, or forks, is a process of its own: never the one that runs the tests.
"""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from tests.conftest import ROOT

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


HANG = """
with handler.interruptible():
    try:
        terminate()
        time.sleep(60)
    except KeyboardInterrupt:
        {}
"""
EXIT_HANGS = (
    "atexit.register(deadlock)\nhandler.set_exit_status({0})\nterminate()\nexit_process({0})"
)
CATCHES_ALL = """while True:
            try: time.sleep(60)
            except BaseException: pass"""
CASES = {
    "the block is left once": (
        """
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
""",
        (3, "tidied\nleft\n"),
    ),
    "a signal before the block is raised in it": (
        """
terminate()
print("still there", flush=True)
try:
    with handler.interruptible():
        print("never")
except KeyboardInterrupt:
    exit_process(handler.set_exit_status(1))
""",
        (1, "still there\n"),
    ),
    "no signal": ("with handler.interruptible(): time.sleep(0.3)\nsys.exit(2)", (2, "")),
    "a hang while it tidies": (HANG.format("time.sleep(60)"), (1, "by force\n")),
    "a hang in C": (HANG.format("deadlock()"), (1, "by force\n")),
    "a hang in Python that catches all": (HANG.format(CATCHES_ALL), (1, "by force\n")),
    "a main thread that never hears the signal": (
        "threading.Timer(0.2, terminate).start()\ndeadlock()",
        (1, "by force\n"),
    ),
    "an exit that hangs after success": (EXIT_HANGS.format(0), (0, "")),
    "an exit that hangs after an error": (EXIT_HANGS.format(3), (3, "")),
    "no other status after the end by force": (
        """
def on_timeout(): print(handler.set_exit_status(0), flush=True)
terminate()
time.sleep(60)
""",
        (1, "1\n"),
    ),
    # They hold standard output: without their end this test would wait for them.
    "children that ignore the signal stand still and end with their parent": (
        """
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
""",
        (1, "2 stopped\n"),
    ),
    "a forked worker is ended by the signal and its parent is not": (
        """
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
""",
        (0, f"{-signal.SIGTERM}\n"),
    ),
    "an exit runs exit handlers and spares the interpreter its end": (
        """
class Late:
    def __del__(self): print("finalised")
late = Late()
atexit.register(print, "exit handler")
threading.Thread(target=time.sleep, args=(60,)).start()
print("no line end", end=" ")
exit_process(4)
""",
        (4, "no line end exit handler\n"),
    ),
}


@pytest.mark.parametrize(("code", "expected"), CASES.values(), ids=CASES)
def test_programs_that_must_not_last(code: str, expected: tuple[int, str]) -> None:
    """Exit status and standard output."""
    command = [sys.executable, "-c", BEGIN + code]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout) == expected
