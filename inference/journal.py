"""What a task has learnt of its candidates so far: a line an image, on disk as soon as it is known.

Images are worked on in sections: runs of candidates that no batch mixes. A task that is started
again takes over the sections that are whole and does the rest anew, so that every batch, and with
it every number, is that of a run without a break.
"""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO

import numpy as np

from inference.predictions import NO_DETECTIONS, Prediction

log = logging.getLogger(__name__)

FORMAT = 1
DIGITS = 9
"""Significant digits that bring back every float32."""


@dataclass(frozen=True)
class Entry:
    """One image: what was seen in it, and what an algorithm says of it."""

    position: int
    path: str
    size: tuple[int, int] | None
    """(height, width), None for an image that cannot be read."""
    detections: np.ndarray
    """float32 [n, 6]: xyxy in pixels of the image, confidence, class."""
    error: str | None
    seen: int
    """When it was seen, counted in images: scores come later and in another order."""
    scored: Mapping[str, object] | None = None
    """Plain values of its score; None where nothing is scored."""

    def prediction(self) -> Prediction:
        """What was seen, without the view."""
        return Prediction(self.position, self.path, self.size, self.detections, error=self.error)


def digest_of(what: Mapping[str, object], texts: Sequence[str], weights: Path | None) -> str:
    """A digest of plain values, of texts in their order and of the content of a file."""
    digest = hashlib.sha256(json.dumps([FORMAT, what], sort_keys=True, default=str).encode())
    for text in texts:
        digest.update(b"\0" + text.encode("utf-8", "surrogateescape"))
    if weights is not None:
        with weights.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


class Journal:
    """The lines of `total` candidates in `path`; use as a context manager.

    Iterate over `kept` first, then `add` what comes after. What an earlier run wrote counts if it
    has the same `identity`; with an empty one it never does, and no section counts with an image
    that is `outdated`. Where the file cannot be written there is a warning, and the task goes on
    without it.
    """

    def __init__(
        self,
        path: Path,
        *,
        identity: str,
        section: int,
        total: int,
        outdated: Callable[[Entry], bool] = lambda entry: False,
    ) -> None:
        self.path = path
        self.done = 0
        """Candidates, from the first on, that `kept` has handed out."""
        self._identity = identity
        self.section = section
        """Candidates of a section."""
        self._outdated = outdated
        self._offsets = array("q", [-1]) * total
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        self._file = path.open("r+b", buffering=0)
        self._whole = True

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()

    def kept(self) -> Iterator[list[Entry]]:
        """The whole sections of an earlier run, one by one; then the file ends after the last.

        Those that several processes have left in files of their own come in their places, and into
        the file. A section in such a file is newer than one in the log.
        """
        total, end = len(self._offsets), 0
        with self.path.open("rb") as file:
            if self._identity and self._is_ours(file.readline()):
                end = file.tell()
                while self.done < total and not self._part().is_file():
                    found = read_section(file, self._next(), self._outdated)
                    if found is None:
                        break
                    end = file.tell()
                    yield self._take_over(found, 0)
        self._file.truncate(end)
        self._file.seek(end)
        if not end:
            head = {"identity": self._identity, "section": self.section}
            self._write(json.dumps(head).encode() + b"\n")
        if self.done:
            log.info("going on after %d of %d candidates (%s)", self.done, total, self.path)
        yield from self._parts()

    def _parts(self) -> Iterator[list[Entry]]:
        """The sections that are next in files of their own, as they go over into the log."""
        before = self.done
        while self._identity and self.done < len(self._offsets) and self._part().is_file():
            part = self._part()
            with part.open("rb") as file:
                found = read_section(file, self._next(), self._outdated)
                if found is None or file.read(1):
                    break
                file.seek(0)
                place = self._file.tell()
                self._write(file.read())
            if self._whole:
                part.unlink()
            yield self._take_over(found, place)
        if self.done > before:
            log.info(
                "candidates %d to %d of %d are those of several processes",
                before + 1,
                self.done,
                len(self._offsets),
            )
        if self._whole:
            shutil.rmtree(parts_folder(self.path), ignore_errors=True)

    def _part(self) -> Path:
        return part_path(self.path, self._identity, self.done // self.section)

    def _next(self) -> range:
        return section_of(self.done // self.section, self.section, len(self._offsets))

    def _take_over(self, found: Sequence[tuple[int, Entry]], place: int) -> list[Entry]:
        """The entries of a section whose lines begin at offsets from `place` on in the log."""
        for offset, entry in found:
            self._offsets[entry.position] = place + offset if self._whole else -1
        self.done += len(found)
        return [entry for _, entry in found]

    def _is_ours(self, line: bytes) -> bool:
        same = _is_head(line, self._identity, self.section)
        if line and not same:
            log.info("%s is of another task or not whole: starting anew", self.path)
        return same

    def add(self, entry: Entry) -> None:
        """Append one image; it is with the operating system when this returns."""
        if self._whole:
            self._offsets[entry.position] = self._file.tell()
            self._write(line_of(entry))

    def _write(self, data: bytes) -> None:
        try:
            written = self._file.write(data)
            if written != len(data):
                raise OSError("the disk is full")
        except OSError as error:
            self._whole = False
            log.warning("%s cannot be written (%s): a restart begins anew", self.path, error)

    def entry(self, position: int) -> Entry | None:
        """What is on disk of one candidate; None if nothing is."""
        offset = self._offsets[position]
        if offset < 0:
            return None
        with self.path.open("rb") as file:
            file.seek(offset)
            try:
                return _entry_of(file.readline())
            except (ValueError, KeyError, TypeError):
                return None


def section_of(number: int, section: int, total: int) -> range:
    """The positions of a section's candidates."""
    return range(number * section, min((number + 1) * section, total))


def parts_folder(known: Path) -> Path:
    """Where several processes leave what belongs into the log `known`."""
    return known.with_name("parts")


def part_path(known: Path, identity: str, number: int) -> Path:
    """The file of a section, there once it is whole."""
    return parts_folder(known) / identity[:16] / f"{number:06d}.jsonl"


def parts_done(known: Path) -> int:
    """How many sections lie there whole."""
    return sum(1 for _ in parts_folder(known).glob("*/*.jsonl"))


def candidates_known(
    path: Path,
    *,
    identity: str,
    section: int,
    total: int,
    outdated: Callable[[Entry], bool] = lambda entry: False,
) -> int:
    """How many candidates, from the first on, stand in whole sections in the log `path`."""
    done = 0
    try:
        with path.open("rb") as file:
            if not identity or not _is_head(file.readline(), identity, section):
                return 0
            while done < total:
                wanted = section_of(done // section, section, total)
                if read_section(file, wanted, outdated) is None:
                    break
                done = wanted.stop
    except FileNotFoundError:
        return 0
    return done


def read_section(
    file: IO[bytes], wanted: range, outdated: Callable[[Entry], bool]
) -> list[tuple[int, Entry]] | None:
    """The lines of `wanted`, each once, with their places in the file; None if one is missing, torn
    or outdated.
    """
    found, positions = [], set()
    for _ in wanted:
        offset, line = file.tell(), file.readline()
        try:
            entry = _entry_of(line)
        except (ValueError, KeyError, TypeError):
            return None
        if entry.position not in wanted or entry.position in positions:
            return None
        if outdated(entry):
            return None
        positions.add(entry.position)
        found.append((offset, entry))
    return found


def _is_head(line: bytes, identity: str, section: int) -> bool:
    try:
        same = json.loads(line) == {"identity": identity, "section": section}
    except ValueError:
        return False
    return same and line.endswith(b"\n")


def line_of(entry: Entry) -> bytes:
    """The line of an image, with its end."""
    content: dict[str, object] = {
        "n": entry.position,
        "path": entry.path,
        **(entry.scored or {}),
        "size": entry.size,
        "seen": entry.seen,
        "boxes": [[float(f"{v:.{DIGITS}g}") for v in row] for row in entry.detections.tolist()],
    }
    if entry.error is not None:
        content["error"] = entry.error
    if entry.scored is not None:
        content["scored"] = sorted(entry.scored)
    return json.dumps(content, separators=(",", ":")).encode() + b"\n"


def _entry_of(line: bytes) -> Entry:
    """The image of a line; ValueError, KeyError or TypeError for a line that is not whole."""
    if not line.endswith(b"\n"):
        raise ValueError("torn")
    content = json.loads(line)
    rows = np.array(content["boxes"], np.float32).reshape(-1, 6)
    size = content["size"]
    scored = content.get("scored")
    return Entry(
        int(content["n"]),
        str(content["path"]),
        None if size is None else (int(size[0]), int(size[1])),
        rows if len(rows) else NO_DETECTIONS,
        content.get("error"),
        int(content["seen"]),
        None if scored is None else {name: content[name] for name in scored},
    )
