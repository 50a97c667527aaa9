"""SIGTERM as an orderly end: the work stops where it stands, or a deadline ends it."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType

GRACE = 8.0
"""Seconds from the signal to the end by force; `docker stop` kills after ten."""

LEFT = 0
"""The number, of no signal, that tells the waiting thread of the end."""


class Terminated(KeyboardInterrupt):
    """The process was told to stop; no `except Exception` on the way may swallow it."""


@contextmanager
def terminable(by_force: Callable[[], object], *, grace: float = GRACE) -> Iterator[None]:
    """Within, SIGTERM raises `Terminated` in the main thread, once; later ones are ignored.

    A main thread that is busy inside a library hears it late. Therefore a thread waits besides:
    if the block is not left `grace` seconds after the signal, it calls `by_force` and ends the
    process with status 1. Forked processes get the ordinary SIGTERM back. Main thread only.
    """
    owner = os.getpid()
    left = threading.Event()
    reader, writer = os.pipe()
    os.set_blocking(writer, False)

    def stop(number: int, frame: FrameType | None) -> None:
        if os.getpid() != owner:  # a signal in the very moment of a fork
            os._exit(1)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        raise Terminated("SIGTERM")

    def wait() -> None:
        while signal.SIGTERM not in (heard := os.read(reader, 64)):
            if LEFT in heard:
                return
        if not left.wait(grace):
            by_force()
            os._exit(1)

    def restore_in_child() -> None:
        if not left.is_set() and os.getpid() != owner:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGTERM, signal.SIG_DFL)

    os.register_at_fork(after_in_child=restore_in_child)
    before = signal.signal(signal.SIGTERM, stop)
    fd_before = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    watcher = threading.Thread(target=wait, name="termination", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        left.set()
        signal.set_wakeup_fd(fd_before)
        signal.signal(signal.SIGTERM, before)
        # Closing would not wake the thread: forked processes hold this end of the pipe as well.
        with suppress(BlockingIOError):
            os.write(writer, bytes([LEFT]))
        watcher.join()
        os.close(writer)
        os.close(reader)
