"""A reader that polls monitor.txt without pause and keeps every record that no platform may see."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from pathlib import Path

PAUSE = 0.001
"""Seconds between two reads."""
TOO_OFTEN = 5
"""Broken records kept; one is a failure already."""


@dataclass
class Watch:
    """Reads monitor.txt about a thousand times a second while the block runs.

    The record that is there at the beginning is the platform's own (four columns, pending) and is
    not looked at. Every other one must be whole, its time later than the one before and its
    progress no less; after `started_again` progress may begin anew.
    """

    path: Path
    reads: int = 0
    records: int = 0
    broken: list[bytes] = field(default_factory=list)
    progress: float = 0.0
    """Of the last record."""

    def __enter__(self) -> Watch:
        self._before = self.path.read_bytes()
        self._time, self.progress = 0.0, 0.0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._read)
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()
        self._thread.join()

    def started_again(self) -> None:
        """Another process begins to write."""
        self.progress = 0.0

    def _read(self) -> None:
        while not self._over.wait(PAUSE):
            try:
                content = self.path.read_bytes()
            except OSError as error:
                content = repr(error).encode()
            self.reads += 1
            if content == self._before:
                continue
            self._before = content
            self.records += 1
            if not self._sound(content) and len(self.broken) < TOO_OFTEN:
                self.broken.append(content)

    def _sound(self, content: bytes) -> bool:
        if not is_whole(content):
            return False
        columns = content.split(b"\t")
        time, progress = float(columns[1]), float(columns[2])
        rises = time > self._time and progress >= self.progress
        self._time, self.progress = time, progress
        return rises


def is_whole(record: bytes) -> bool:
    """Whether a record is complete: five or six columns, numbers in place, a line end last."""
    columns = record.split(b"\n")[0].split(b"\t")
    try:
        sound = 0 <= float(columns[2]) <= 1 and int(columns[3]) in (1, 2, 3, 4)
        sound = sound and float(columns[1]) > 0 and int(columns[4]) >= 0
    except (IndexError, ValueError):
        return False
    return sound and 5 <= len(columns) <= 6 and record.endswith(b"\n")
