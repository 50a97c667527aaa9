"""The shards of a task that several ranks compute, also on several machines with one folder.

A rank claims a shard by a file that only one can create (`O_EXCL`, also on NFS from version 3 on),
and writes the shard in one step. Nothing depends on a claim being respected: two ranks that compute
the same shard write the same bytes. So a claim without a sign of life may be taken over, and no
locks are needed, which not every shared file system has.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from inference.journal import SHARD_FOLDER, JournalConfig, Record, encode
from utils.atomic import replace_file, write_text
from utils.errors import TaskError, read_error_file

PATIENCE = 120.0
"""Seconds without a sign of life after which a claim is void: more than file servers' clients keep
an old time of a file."""
INTERVAL = 5.0
"""Seconds between two signs of life, and between two looks at what other ranks have done."""
START = "start"
"""File that names the start whose ranks compute the shards; removed before they are merged."""


def failures(journal: Path) -> Path:
    """Return the folder in which ranks on several machines leave the first error."""
    return journal.with_name(SHARD_FOLDER) / "failed"


class ShardWriter:
    """Writer of one rank's shards, each to a file that appears when the shard is whole.

    Rank r of n takes the shards r, r + n, r + 2n and so on, then any that nobody has claimed.
    `start` names what all ranks of one start have in common: claims of another one are void.
    """

    def __init__(
        self, config: JournalConfig, *, rank: int = 0, world_size: int = 1, start: str = ""
    ) -> None:
        self._config, self._start = config, start
        self._folder = config.shard_path(0).parent
        self._turn = range(rank, config.shard_count, world_size)
        others = (n for n in reversed(range(config.shard_count)) if n not in self._turn)
        self._order = (*self._turn, *others)
        self._in_journal = sum(1 for _ in config.shards())
        self._done: set[int] = set()
        self._claims: set[Path] = set()
        self._signs: dict[int, tuple[float, float]] = {}
        """By shard: the time of another rank's claim, and since when it has not changed."""
        self._lines: list[bytes] = []
        self._looked_at = 0.0
        self._on_disk = 0

    def begin(self) -> None:
        """Begin a start before its ranks compute."""
        write_text(self._folder / START, self._start)

    def has_begun(self) -> bool:
        """Return whether this start has begun, and has not ended."""
        with suppress(OSError):
            return (self._folder / START).read_text(encoding="utf-8") == self._start
        return False

    def end(self) -> None:
        """End a start before its shards are merged: they disappear, and none must be missed."""
        (self._folder / START).unlink(missing_ok=True)

    def positions(self) -> Iterator[int]:
        """Yield the candidates of the shards that this rank claims, one after the other.

        Shards that are whole on disk or claimed by others are left out, without waiting for them.
        """
        for number in self._order:
            # Asked last: where a start has ended, shards are missing that are merged already.
            if not self._is_done(number) and self._claim(number) and self._goes_on():
                yield from self._config.shard(number)

    def is_complete(self) -> bool:
        """Return whether all shards are on disk, or were."""
        return not self._goes_on() or all(map(self._is_done, self._order))

    def append(self, record: Record) -> None:
        """Add one image; those of a shard come together. OSError if the file cannot be written."""
        self._lines.append(encode(record))
        number = record.position // self._config.shard_size
        if len(self._lines) == len(self._config.shard(number)):
            with replace_file(self._config.shard_path(number), shared=True) as temporary:
                temporary.write_bytes(b"".join(self._lines))
            self._lines.clear()
            self._on_disk += 1
            claim = self._claim_path(number)
            claim.unlink(missing_ok=True)
            self._claims.discard(claim)
        self.look()

    def look(self) -> int:
        """Give a sign of life and return how many candidates all ranks have computed.

        Raises the TaskError of another machine's rank. Does all this every `INTERVAL` at most.
        """
        now = time.monotonic()
        if now - self._looked_at >= INTERVAL:
            self._looked_at = now
            for claim in self._claims:
                with suppress(OSError):
                    os.utime(claim)
            if error := read_error_file(failures(self._config.path)):
                raise TaskError(error[0], error[1])
            numbers = (int(path.stem) for path in self._folder.glob("*.jsonl"))
            self._on_disk = self._in_journal + sum(n >= self._in_journal for n in numbers)
        computed = self._on_disk * self._config.shard_size + len(self._lines)
        return min(computed, self._config.total)

    def _goes_on(self) -> bool:
        return not self._start or self.has_begun()

    def _is_done(self, number: int) -> bool:
        """Return whether a shard is on disk; each rank makes sure that those of its turn are whole.

        In the journal, unless a rank computes it again, or in a file of its own.
        """
        path = self._config.shard_path(number)
        if number in self._done:
            return True
        if not path.is_file():
            return number < self._in_journal
        if number in self._turn and self._config.read_shard_file(number) is None:
            path.unlink(missing_ok=True)  # others take it for whole
            return False
        self._done.add(number)
        return True

    def _claim_path(self, number: int) -> Path:
        return self._config.shard_path(number).with_suffix(".claim")

    def _claim(self, number: int) -> bool:
        """Claim a shard; return False if another rank computes it."""
        path = self._claim_path(number)
        path.parent.mkdir(parents=True, exist_ok=True)
        if self._is_void(number, path):
            path.unlink(missing_ok=True)
        try:
            with path.open("x", encoding="ascii") as file:
                file.write(self._start)
        except FileExistsError:
            return False
        self._claims.add(path)
        return True

    def _is_void(self, number: int, path: Path) -> bool:
        """Return whether a claim is of another start, or its rank gives no sign of life."""
        try:
            # A file server is asked when a file is opened; a mere stat may have an old answer.
            with path.open(encoding="ascii") as file:
                start, sign = file.read(), os.fstat(file.fileno()).st_mtime
        except OSError:
            return False
        now = time.monotonic()
        if self._signs.get(number, (None, now))[0] != sign:
            self._signs[number] = sign, now
        return start not in ("", self._start) or now - self._signs[number][1] >= PATIENCE
