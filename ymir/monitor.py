"""Progress file `monitor.txt` of a YMIR task: one record, replaced atomically."""

from __future__ import annotations

import logging
import os
import threading
import time
from pathlib import Path

from utils.atomic import write_text
from utils.errors import Code

LOG = logging.getLogger(__name__)

RUNNING, FAILED = 2, 4
FREE_LINES = 99
MESSAGE_LENGTH = 300
INTERVAL = 1.0
"""Least seconds between two records of progress."""


class Monitor:
    """Writer of progress and, once, of a failure; a reader sees a complete record at any time.

    A record is `task id, UNIX time, progress, state, return code[, message]` between TABs, and up
    to 99 lines of text. Progress never falls; the time is later in every record, because the
    platform looks only at records whose time changed. Trouble in writing is logged, not raised:
    it must neither end a task nor hide the reason of a failure. The folder must exist. On a full
    disk the last record is written into the space of the one before.
    """

    def __init__(self, path: Path, task_id: str) -> None:
        self.path = Path(path)
        self.task_id = task_id
        self._progress = self._stamp = 0.0
        self._written_at = -INTERVAL
        self._complete = self._failed = self._trouble = False
        self._turn = threading.Lock()

    def report(self, fraction: float, note: str = "") -> None:
        """Report the state «running» at `fraction` (0 to 1); `note` is a line of text for people.

        Written at most once a second, except the first record and the first one that is complete.
        Nothing is written after a failure.
        """
        with self._turn:
            self._progress = max(self._progress, min(fraction, 1.0))
            due = time.monotonic() - self._written_at >= INTERVAL
            completes = self._progress >= 1.0 and not self._complete
            if self._failed or not (due or completes):
                return
            self._complete = self._progress >= 1.0
            self._write(RUNNING, Code.OK, "", note)

    def reload(self) -> None:
        """Reload progress and time from the record that another process has written."""
        columns = self._columns()
        try:
            self._stamp = max(self._stamp, float(columns[1]))
            self._progress = max(self._progress, min(float(columns[2]), 1.0))
        except (ValueError, IndexError):
            return

    def fail(self, code: Code, sentence: str, traceback_text: str = "") -> None:
        """Report a failure: state 4, final for the platform; only the first call counts."""
        with self._turn:
            if self._failed:
                return
            self._failed = True
            self._write_failure(code, sentence, traceback_text)

    def fail_now(self, code: Code, sentence: str, *, patience: float = 0.3) -> None:
        """Report a failure although another thread may hang in this object.

        Waits for that thread `patience` seconds at most; keeps a failure that the file has already.
        """
        waited_for = self._turn.acquire(timeout=patience)
        try:
            self._failed = True
            if self._columns()[3:4] != [str(FAILED)]:
                self.reload()
                self._write_failure(code, sentence, "")
        finally:
            if waited_for:
                self._turn.release()

    def _columns(self) -> list[str]:
        """Return the columns of the record on disk; none if it cannot be read."""
        try:
            return self.path.read_text(encoding="utf-8").split("\n", 1)[0].split("\t")
        except (OSError, ValueError):
            return []

    def _write_failure(self, code: Code, sentence: str, traceback_text: str) -> None:
        message = " ".join(sentence.split())[:MESSAGE_LENGTH]
        self._write(FAILED, code, message, f"{sentence}\n{traceback_text}")

    def _write(self, state: int, code: Code, message: str, text: str) -> None:
        self._written_at = time.monotonic()
        # A clock that was set back must not make two records look like one.
        self._stamp = max(time.time(), self._stamp + 1e-6)
        columns = f"{self.task_id}\t{self._stamp:.6f}\t{self._progress:.6f}\t{state}\t{int(code)}"
        lines = [f"{columns}\t{message}" if message else columns]
        free = [line for line in text.splitlines() if line.strip()]
        # The end of a long traceback says more than its beginning; the sentence comes first.
        lines += free if len(free) <= FREE_LINES else free[:1] + free[1 - FREE_LINES :]
        record = "\n".join(lines).encode("utf-8", "replace").decode("utf-8") + "\n"
        try:
            if not self.path.parent.is_dir():
                raise FileNotFoundError(f"the folder {self.path.parent} does not exist")
            write_text(self.path, record)
        except OSError as error:
            if not self._trouble:
                LOG.warning("progress could not be written to %s: %s", self.path, error)
            self._trouble = True
            if state == FAILED or self._complete:
                _write_in_place(self.path, record.encode("utf-8"))


def _write_in_place(path: Path, record: bytes) -> None:
    """Overwrite the record in place, taking no more space than it has: the disk is full.

    A reader may see the beginning of the new record before the end of the old one. Both have
    their columns at the same places, so it still reads complete ones.
    """
    try:
        with path.open("rb+") as file:
            place = os.fstat(file.fileno())
            room = max(place.st_size, getattr(place, "st_blocks", 0) * 512)
            if len(record) > room:
                record = record[:room].rpartition(b"\n")[0] + b"\n"
            file.write(record)
            file.flush()
            file.truncate(len(record))
            os.fsync(file.fileno())
    except OSError as error:
        LOG.warning("the last record could not be written to %s: %s", path, error)
