"""The end of a process: by itself, on SIGTERM, or by force if SIGTERM has no effect in time."""

from __future__ import annotations

import atexit
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType, TracebackType
from typing import NoReturn

GRACE = 7.0
"""Seconds from SIGTERM to the end by force; `docker stop` kills after ten."""
TOLD_TO_STOP = (
    "the task was told to stop (SIGTERM): what was finished is kept, and a training resumes from "
    "there when it is started again."
)


class Terminated(KeyboardInterrupt):
    """The process received SIGTERM; no `except Exception` on the way may swallow it."""


class ShutdownHandler:
    """Raise Terminated in the main thread on SIGTERM; end the process if that takes too long.

    Python runs signal handlers in the main thread, which hears nothing while a library keeps it
    busy. Therefore a thread reads the signal from the wakeup file descriptor. `grace` seconds
    later it stops all child processes, calls `on_timeout` unless an exit status has been set,
    kills the children and exits with that status, else 1. One per process, from the main thread.
    """

    def __init__(self, on_timeout: Callable[[], object], *, grace: float = GRACE) -> None:
        self._on_timeout = on_timeout
        self._grace = grace
        self._status: int | None = None
        self.forced = False
        """Whether the end by force has begun: nothing else is to be reported."""
        self._lock = threading.Lock()
        self._received = self._raises = False
        reader, writer = os.pipe()
        if hasattr(os, "register_at_fork"):  # Windows asks for neither
            os.set_blocking(writer, False)
            # A forked worker shares the pipe: its own SIGTERM must not be taken for ours.
            os.register_at_fork(after_in_child=_default_handling)
        signal.signal(signal.SIGTERM, self._on_signal)
        signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        self._thread = threading.Thread(target=self._watch, args=(reader,), daemon=True)
        self._thread.start()
        atexit.register(self._on_exit)

    @contextmanager
    def interruptible(self) -> Iterator[None]:
        """Let SIGTERM raise Terminated within, once; one that came before raises it at once."""
        try:
            self._raises = True
            if self._received:
                self._raise()
            yield
        finally:
            self._raises = False

    def set_exit_status(self, status: int) -> int:
        """Set the exit status when nothing is left to report; return the one that was set first."""
        with self._lock:
            if self._status is None:
                self._status = status
            return self._status

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self._received = True
        if self._raises:
            self._raise()

    def _raise(self) -> None:
        self._raises = False
        raise Terminated

    def _watch(self, reader: int) -> None:
        while signal.SIGTERM not in os.read(reader, 64):
            pass
        time.sleep(self._grace)
        with self._lock:
            self.forced = self._status is None
            status = self._status = 1 if self._status is None else self._status
        try:
            if self.forced:
                signal_children(signal.SIGSTOP)
                self._on_timeout()
        finally:
            signal_children(signal.SIGKILL)
            os._exit(status)

    def _on_exit(self) -> None:
        if self.forced:  # a main thread that waited for a child has lost it
            self._thread.join()


def _default_handling() -> None:
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def processes_below(parent: int) -> list[int]:
    """Return every process that descends from one, the closest first (Linux)."""
    found = [parent]
    for process in found:
        for children in Path(f"/proc/{process}/task").glob("*/children"):
            with suppress(OSError):  # the process has just ended
                found += map(int, children.read_text().split())
    return found[1:]


def signal_children(number: signal.Signals) -> None:
    """Send a signal to every process that descends from this one (Linux)."""
    # All at once: a main thread that waits for the first child might end this process.
    for process in processes_below(os.getpid()):
        with suppress(OSError):
            os.kill(process, number)


def exit_process(status: int) -> NoReturn:
    """End the process after its exit handlers, without finalising the interpreter.

    Threads of gloo outlive their process group; one that frees a tensor while the interpreter is
    finalised aborts a process whose work is done.
    """
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    os._exit(status)


def listen_for_interrupts() -> None:
    """Let SIGTERM raise Terminated, and tell it and Ctrl-C in one sentence instead of a traceback.

    For the seconds of a program's imports; later `run_command` tells more.
    """
    signal.signal(signal.SIGTERM, _raise_terminated)
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=_default_handling)
    sys.excepthook = _tell_interrupts


def _raise_terminated(number: int, frame: FrameType | None) -> NoReturn:
    raise Terminated


def _tell_interrupts(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    if isinstance(error, KeyboardInterrupt):
        print(how_it_was_stopped(error), file=sys.stderr, flush=True)
    else:
        sys.__excepthook__(kind, error, trace)


def how_it_was_stopped(error: KeyboardInterrupt) -> str:
    """Return one sentence: what stopped a program, and the command that goes on."""
    by = "SIGTERM" if isinstance(error, Terminated) else "the keyboard"
    command = next((text for text in error.args if isinstance(text, str)), "")
    then = f"go on with {command}" if command else "the same command starts it again"
    return f"stopped by {by}: {then}"
