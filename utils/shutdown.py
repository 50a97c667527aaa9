"""SIGTERM as an orderly end: the work stops where it stands, or a deadline ends the process."""

from __future__ import annotations

import atexit
import faulthandler
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from types import FrameType
from typing import NoReturn

from utils.descendants import hold_descendants, kill

GRACE = 7.0
"""Seconds from the signal to the end by force; `docker stop` kills after ten."""
PATIENCE = 1.5
"""Seconds more that the report of an end by force may take."""
LAST_RESORT = 0.4
"""Seconds more after which the process ends without a word."""
TOLD_TO_STOP = (
    "the task was told to stop (SIGTERM): what was finished is kept, and a training goes on from "
    "there when it is started again."
)

NAME = "deadline"
"""Of the threads that wait."""
LEFT = 0
"""The number, of no signal, that tells the waiting thread that nobody is to be ended."""


class Terminated(KeyboardInterrupt):
    """The process was told to stop; no `except Exception` on the way may swallow it."""


def end_at_once(status: int) -> NoReturn:
    """End the process without the interpreter's own end; what was printed is not lost."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    os._exit(status)


class ShutdownHandler:
    """From SIGTERM to the end of the process: an orderly one, or one by force in time.

        deadline = ShutdownHandler()
        deadline.until_the_end()            # a program, before its slow imports
        with deadline.interruptible():      # Terminated is raised here, once
            work()
        deadline.settle(0)                  # how it ended, whatever comes now

    A main thread that is busy inside a library hears the signal late or never. Therefore threads
    wait besides, which take their word from the signal itself: `grace` seconds after it they hold
    all descendants still, let `on_timeout` leave a report for at most `patience` seconds, and end
    the descendants and the process. Its status is the one it was settled with, else 1. Forked
    processes get the ordinary SIGTERM back. Used once, by the main thread.
    """

    def __init__(self, *, grace: float = GRACE, patience: float = PATIENCE) -> None:
        self.on_timeout: Callable[[Sequence[int]], object] = lambda held: None
        """What is left to say of a task that was not settled; gets the processes held still."""
        self._grace, self._patience = grace, patience
        self._owner = 0
        self._status: int | None = None
        self._forced = self._heard = self._raising = self._raised = self._counting = False
        self._decision = threading.Lock()
        self._left, self._due, self._said = (threading.Event() for _ in range(3))
        self._held: list[int] = []

    def until_the_end(self) -> None:
        """Watch from now on, exit handlers included, and spare the interpreter its own end.

        What is registered first runs last: when everybody else has tidied up, the process ends
        at once. A signal that comes later than `settle` changes no status any more.
        """
        atexit.register(self._leave)
        self._watch()

    @contextmanager
    def interruptible(self) -> Iterator[None]:
        """Within, SIGTERM raises Terminated, once; one that came before raises it here.

        Without `until_the_end` the signal is watched for within only.
        """
        alone = self._owner == 0
        if alone:
            self._watch()
        try:
            self._raising = True
            if self._heard and not self._raised:
                self._raise()
            yield
        finally:
            self._raising = False
            if alone:
                self._stop_watching()

    def settle(self, status: int) -> int:
        """How the task has ended, with nothing to be reported any more; the status that counts."""
        with self._decision:
            if self._status is None:
                self._status = status
            return self._status

    def _watch(self) -> None:
        self._owner = os.getpid()
        self._reader, self._writer = os.pipe()
        os.set_blocking(self._writer, False)
        os.register_at_fork(after_in_child=self._restore_in_child)
        self._before = signal.signal(signal.SIGTERM, self._hear)
        self._fd_before = signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)
        # Both begin now: while the interpreter ends it starts no thread any more.
        targets = (self._wait, self._speak)
        self._threads = [threading.Thread(target=one, daemon=True, name=NAME) for one in targets]
        for thread in self._threads:
            thread.start()

    def _stop_watching(self) -> None:
        self._left.set()
        self._due.set()
        signal.set_wakeup_fd(self._fd_before)
        signal.signal(signal.SIGTERM, self._before)
        # Closing would not wake the thread: forked processes hold this end of the pipe as well.
        with suppress(BlockingIOError):
            os.write(self._writer, bytes([LEFT]))
        for thread in self._threads:
            thread.join()
        if self._counting:
            faulthandler.cancel_dump_traceback_later()
        os.close(self._writer)
        os.close(self._reader)

    def _hear(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._owner:  # a signal in the very moment of a fork
            os._exit(1)
        self._heard = True
        if self._raising and not self._raised:
            self._raise()

    def _raise(self) -> None:
        self._raised = True
        raise Terminated("SIGTERM")

    def _wait(self) -> None:
        while signal.SIGTERM not in (heard := os.read(self._reader, 64)):
            if LEFT in heard:
                return
        # A library that never gives the interpreter back stops its threads too, but not this.
        self._counting = True
        last = self._grace + self._patience + LAST_RESORT
        faulthandler.dump_traceback_later(last, exit=True, file=2)
        if self._left.wait(self._grace):
            return
        with self._decision:
            self._forced = self._status is None
            self._status = 1 if self._status is None else self._status
        self._held = hold_descendants(self._owner)
        self._due.set()
        self._said.wait(self._patience)
        kill(self._held)
        os._exit(self._status)

    def _speak(self) -> None:
        self._due.wait()
        try:
            if self._forced:
                self.on_timeout(self._held)
        finally:
            self._said.set()

    def _leave(self) -> None:
        if self._status is None or os.getpid() != self._owner:
            return
        if self._heard:
            kill(hold_descendants(self._owner))
        end_at_once(self._status)

    def _restore_in_child(self) -> None:
        if not self._left.is_set() and os.getpid() != self._owner:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
