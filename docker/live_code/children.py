"""Programs that the starter runs, one at a time: signals are passed on to the running one."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import FrameType

from .task import CONTAINER, StartError

PASSED_ON = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class Children:
    """Runs programs by argument lists; a signal reaches exactly the one that runs."""

    def __init__(self, redact: Callable[[str], str] = str) -> None:
        self.redact = redact
        self.stopped: int | None = None
        self._running: subprocess.Popen[str] | None = None

    def listen(self) -> None:
        """From now on signals are passed on instead of ending the starter."""
        for number in PASSED_ON:
            signal.signal(number, self._pass_on)

    def run(
        self,
        arguments: Sequence[str],
        *,
        folder: Path,
        environ: Mapping[str, str],
        captured: bool = True,
        shown: bool = True,
    ) -> tuple[int, list[str]]:
        """The exit status (128 + n for signal n) and the last lines printed, without secrets.

        With `captured` False the program prints by itself. A program that a signal has stopped
        raises StartError, unless it prints by itself: then its status says so.
        """
        self._refuse_when_stopped()
        try:
            # A session of its own: a terminal's Ctrl-C then comes once, through the starter.
            child = subprocess.Popen(
                list(arguments),
                cwd=folder,
                env=dict(environ),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE if captured else None,
                stderr=subprocess.STDOUT if captured else None,
                text=True,
                errors="replace",
                start_new_session=True,
            )
        except OSError as error:
            raise StartError(
                CONTAINER, f"{arguments[0]} cannot be run in {folder} ({error.strerror})."
            ) from None
        self._running = child
        if self.stopped is not None:
            child.send_signal(self.stopped)
        lines: list[str] = []
        for line in child.stdout or ():
            lines = [*lines, self.redact(line.rstrip("\n"))][-20:]
            if shown:
                print(lines[-1], flush=True)
        status = child.wait()
        self._running = None
        if captured:
            self._refuse_when_stopped()
        return (128 - status if status < 0 else status), lines

    def _pass_on(self, number: int, frame: FrameType | None) -> None:
        self.stopped = number
        if self._running is not None:
            self._running.send_signal(number)

    def _refuse_when_stopped(self) -> None:
        if self.stopped is not None:
            name = signal.Signals(self.stopped).name
            raise StartError(
                CONTAINER, f"The task was stopped from outside ({name}).", 128 + self.stopped
            )
