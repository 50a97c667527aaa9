"""Sections of a task's candidates, each in a file of its own beside the log of all of them.

Several processes share the sections out: each writes those that it claims, and a section's file has
its name once it is whole. `Journal.kept` takes them over in their order.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import IO

from inference.journal import (
    Entry,
    candidates_known,
    line_of,
    part_path,
    read_section,
    section_of,
)


class ShardWriter:
    """What one of several processes does for the log `known`; use as a context manager.

    `claim` says whether the section of a number is this process's. Of an earlier run those
    sections count that are whole, in the log or as a file, unless an image of them is `outdated`.
    """

    def __init__(
        self,
        known: Path,
        *,
        identity: str,
        section: int,
        total: int,
        claim: Callable[[int], bool],
        outdated: Callable[[Entry], bool] = lambda entry: False,
    ) -> None:
        self._known = known
        self._identity = identity
        self._section = section
        self._total = total
        self._claim = claim
        self._outdated = outdated
        self._file: IO[bytes] | None = None
        self._path = Path()
        self._missing = 0

    def __enter__(self) -> ShardWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._file is not None:
            self._file.close()

    def positions(self) -> Iterator[int]:
        """The candidates that this process is to look at, rising; claimed as they are asked for."""
        done = candidates_known(
            self._known,
            identity=self._identity,
            section=self._section,
            total=self._total,
            outdated=self._outdated,
        )
        for number in range(done // self._section, -(-self._total // self._section)):
            if self._claim(number) and not self._is_whole(number):
                yield from section_of(number, self._section, self._total)

    def _is_whole(self, number: int) -> bool:
        try:
            with part_path(self._known, self._identity, number).open("rb") as file:
                wanted = section_of(number, self._section, self._total)
                return read_section(file, wanted, self._outdated) is not None and not file.read(1)
        except FileNotFoundError:
            return False

    def add(self, entry: Entry) -> None:
        """Write down one image; those of a section come together."""
        try:
            if self._file is None:
                self._begin(entry.position // self._section)
            assert self._file is not None
            self._file.write(line_of(entry))
            self._missing -= 1
            if not self._missing:
                self._file.close()
                self._file = None
                _unfinished(self._path).replace(self._path)
        except OSError as error:
            error.filename = str(self._path)
            raise

    def _begin(self, number: int) -> None:
        self._path = part_path(self._known, self._identity, number)
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._missing = len(section_of(number, self._section, self._total))
        self._file = _unfinished(self._path).open("wb")


def _unfinished(path: Path) -> Path:
    # Of this process, as one that an earlier start left behind may still be writing.
    return path.with_name(f".{path.name}.{os.getpid()}.tmp")
