"""The journal of a mining or inference task: one JSON line an image, replayed when it resumes.

Candidates form shards of equal size, and no batch mixes images of two. A task that is started again
replays the whole shards and computes the rest, so that every batch, and with it every number, is
that of an uninterrupted run. Several ranks write files of shards (`inference/shards.py`), which are
merged.
"""

from __future__ import annotations

import json
import logging
import shutil
from array import array
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import numpy as np

from inference.predictions import Prediction

log = logging.getLogger(__name__)

DIGITS = 9
"""Significant decimal digits that bring back every float32."""
SHARD_FOLDER = "shards"
"""Where ranks leave their shards, beside the journal."""

Shard = tuple[list[bytes], list["Record"]]
"""The lines of a shard and their records."""


@dataclass(frozen=True)
class Record:
    """The detections of one image, and its score."""

    position: int
    path: str
    size: tuple[int, int] | None
    """(height, width), None for an unreadable image."""
    detections: np.ndarray
    """float32 [n, 6]: xyxy in pixels of the image, confidence, class."""
    error: str | None
    seen: int
    """Rank in the order of prediction; scores come later and in another order."""
    scored: Mapping[str, object] | None = None
    """The score as plain values; None without mining."""
    mark: str = ""
    """`content_mark` of the file, by which it is known where it was moved."""

    def prediction(self) -> Prediction:
        """Return the prediction without its network input."""
        return Prediction(self.position, self.path, self.size, self.detections, error=self.error)


@dataclass(frozen=True)
class JournalConfig:
    """What the journal in the file `path` holds: `total` candidates in shards of `shard_size`.

    Only what was written under the same `identity` is replayed, and nothing under an empty one.
    A shard with a record that `is_outdated` is computed again.
    """

    path: Path
    identity: str
    shard_size: int
    total: int
    is_outdated: Callable[[Record], bool] = field(default=lambda record: False, compare=False)

    @property
    def header(self) -> bytes:
        """The first line of the file."""
        header = {"identity": self.identity, "shard_size": self.shard_size}
        return json.dumps(header).encode() + b"\n"

    @property
    def shard_folder(self) -> Path:
        """The folder of the ranks' shards."""
        return self.path.with_name(SHARD_FOLDER)

    @property
    def shard_count(self) -> int:
        """The number of shards; the last one may be smaller."""
        return -(-self.total // self.shard_size)

    def shard(self, number: int) -> range:
        """Return the positions of a shard's candidates."""
        return range(number * self.shard_size, min((number + 1) * self.shard_size, self.total))

    def shard_path(self, number: int) -> Path:
        """Return the file of a shard, which is there once the shard is whole."""
        return self.shard_folder / self.identity[:16] / f"{number:06d}.jsonl"

    def is_own(self, header: bytes) -> bool:
        """Return whether what follows a file's first line may be replayed."""
        return bool(self.identity) and header == self.header

    def shards(self) -> Iterator[tuple[int, Shard]]:
        """Yield the whole shards, from the first on, in the journal's file, with their offsets."""
        with suppress(FileNotFoundError), self.path.open("rb") as file:
            if self.is_own(file.readline()):
                for number in range(self.shard_count):
                    offset = file.tell()
                    shard = self._read_shard(file, number)
                    if shard is None:
                        return
                    yield offset, shard

    def read_shard_file(self, number: int) -> Shard | None:
        """Read the file of a shard; None if there is no whole one."""
        if self.identity:
            with suppress(FileNotFoundError), self.shard_path(number).open("rb") as file:
                shard = self._read_shard(file, number)
                return None if file.read(1) else shard
        return None

    def _read_shard(self, file: IO[bytes], number: int) -> Shard | None:
        """Read a shard's lines; None if a record is missing, torn, repeated or outdated."""
        wanted = self.shard(number)
        lines = [file.readline() for _ in wanted]
        records = [record for record in map(decode, lines) if record]
        if {record.position for record in records} != set(wanted):
            return None
        return None if any(map(self.is_outdated, records)) else (lines, records)


def count_shard_files(path: Path) -> int:
    """Count the shards that ranks have left for the journal `path`, also of other identities."""
    return sum(1 for _ in path.with_name(SHARD_FOLDER).glob("*/*.jsonl"))


class Journal:
    """The journal of one process; a context manager. Iterate over `replay`, then `append`.

    A file that cannot be written is a warning, and the task continues without it.
    """

    def __init__(self, config: JournalConfig) -> None:
        self.config = config
        self.replayed = 0
        """Candidates, from the first on, that `replay` has yielded."""
        self._offsets = array("q", [-1]) * config.total
        config.path.parent.mkdir(parents=True, exist_ok=True)
        config.path.touch()
        self._file = config.path.open("r+b", buffering=0)
        self._is_writable = True

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def replay(self) -> Iterator[list[Record]]:
        """Yield the records of whole shards in order, then truncate the file after the last one.

        A shard that a rank has left in a file of its own is merged in its place: it is newer than
        the lines of the journal.
        """
        config = self.config
        with config.path.open("rb") as file:
            header = file.readline()
        end = len(header) if config.is_own(header) else 0
        if header and not end:
            log.info("%s is of another task or torn: not resumed", config.path)
        for offset, shard in config.shards():
            if config.shard_path(self._next).is_file():
                break
            end = offset + sum(map(len, shard[0]))
            yield self._accept(shard, offset)
        self._file.truncate(end)
        self._file.seek(end)
        if not end:
            self._write(config.header)
        if self.replayed:
            log.info(
                "resumed after %d of %d candidates (%s)", self.replayed, config.total, config.path
            )
        yield from self._merge_shard_files()

    def _merge_shard_files(self) -> Iterator[list[Record]]:
        """Append the shard files that come next, and yield their records."""
        config, before = self.config, self.replayed
        while self.replayed < config.total and (shard := config.read_shard_file(self._next)):
            offset = self._file.tell()
            self._write(b"".join(shard[0]))
            if self._is_writable:
                config.shard_path(self._next).unlink()
            yield self._accept(shard, offset)
        if self.replayed > before:
            log.info(
                "merged candidates %d to %d of %d from shards of several processes",
                *(before + 1, self.replayed, config.total),
            )
        if self._is_writable:
            shutil.rmtree(config.shard_folder, ignore_errors=True)

    @property
    def _next(self) -> int:
        return self.replayed // self.config.shard_size

    def _accept(self, shard: Shard, offset: int) -> list[Record]:
        """Note where the records of a shard begin, which starts at `offset`, and return them."""
        for line, record in zip(*shard, strict=True):
            self._offsets[record.position] = offset if self._is_writable else -1
            offset += len(line)
        self.replayed += len(shard[1])
        return shard[1]

    def append(self, record: Record) -> None:
        """Append one image; its line is with the operating system when this returns."""
        if self._is_writable:
            self._offsets[record.position] = self._file.tell()
            self._write(encode(record))

    def _write(self, content: bytes) -> None:
        try:
            if self._file.write(content) != len(content):
                raise OSError("the disk is full")
        except OSError as error:
            self._is_writable = False
            path = self.config.path
            log.warning("%s cannot be written (%s): the task cannot be resumed", path, error)

    def record(self, position: int) -> Record | None:
        """Read one candidate's record from disk; None if there is none."""
        offset = self._offsets[position]
        if offset < 0:
            return None
        with self.config.path.open("rb") as file:
            file.seek(offset)
            return decode(file.readline())


def encode(record: Record) -> bytes:
    """Return the line of a record, with its end."""
    content: dict[str, object] = {
        "n": record.position,
        "path": record.path,
        "mark": record.mark,
        **(record.scored or {}),
        "size": record.size,
        "seen": record.seen,
        "boxes": [[float(f"{v:.{DIGITS}g}") for v in row] for row in record.detections.tolist()],
    }
    if record.error is not None:
        content["error"] = record.error
    if record.scored is not None:
        content["scored"] = sorted(record.scored)
    return json.dumps(content, separators=(",", ":")).encode() + b"\n"


def decode(line: bytes) -> Record | None:
    """Return the record of a line; None if the line is torn."""
    try:
        content = json.loads(line) if line.endswith(b"\n") else {}
        size, scored = content["size"], content.get("scored")
        return Record(
            int(content["n"]),
            str(content["path"]),
            None if size is None else (int(size[0]), int(size[1])),
            np.array(content["boxes"], np.float32).reshape(-1, 6),
            content.get("error"),
            int(content["seen"]),
            None if scored is None else {name: content[name] for name in scored},
            str(content["mark"]),
        )
    except (ValueError, KeyError, TypeError):
        return None
