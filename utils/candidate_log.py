"""What a task has learnt of its candidates so far: a line an image, on disk as soon as it is known.

Images are worked on in sections: runs of candidates that no batch mixes. A task that is started
again takes over the sections that are whole and does the rest anew, so that every batch, and with
it every number, is that of a run without a break.
"""

from __future__ import annotations

import hashlib
import json
import logging
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import numpy as np

from utils.predictions import NO_DETECTIONS, Prediction

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


class CandidateLog:
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
        self._section = section
        self._outdated = outdated
        self._offsets = array("q", [-1]) * total
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        self._file = path.open("r+b", buffering=0)
        self._whole = True

    def __enter__(self) -> CandidateLog:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()

    def kept(self) -> Iterator[list[Entry]]:
        """The whole sections of an earlier run, one by one; then the file ends after the last."""
        total, end = len(self._offsets), 0
        with self.path.open("rb") as file:
            if self._identity and self._is_ours(file.readline()):
                end = file.tell()
                while self.done < total:
                    wanted = range(self.done, min(self.done + self._section, total))
                    entries = self._read_section(file, wanted)
                    if entries is None:
                        break
                    end, self.done = file.tell(), wanted.stop
                    yield entries
        self._file.truncate(end)
        self._file.seek(end)
        if not end:
            head = {"identity": self._identity, "section": self._section}
            self._write(json.dumps(head))
        if self.done:
            log.info("going on after %d of %d candidates (%s)", self.done, total, self.path)

    def _is_ours(self, line: bytes) -> bool:
        try:
            head = json.loads(line)
            same = head == {"identity": self._identity, "section": self._section}
        except ValueError:
            same = False
        if line and not same:
            log.info("%s is of another task or not whole: starting anew", self.path)
        return same and line.endswith(b"\n")

    def _read_section(self, file, wanted: range) -> list[Entry] | None:  # type: ignore[no-untyped-def]
        """The lines of `wanted`, each once; None if one is missing, torn or outdated."""
        entries, positions = [], set()
        for _ in wanted:
            offset, line = file.tell(), file.readline()
            try:
                entry = _entry_of(line)
            except (ValueError, KeyError, TypeError):
                return None
            if entry.position not in wanted or entry.position in positions:
                return None
            if self._outdated(entry):
                return None
            positions.add(entry.position)
            self._offsets[entry.position] = offset
            entries.append(entry)
        return entries

    def add(self, entry: Entry) -> None:
        """Append one image; it is with the operating system when this returns."""
        if self._whole:
            self._offsets[entry.position] = self._file.tell()
            self._write(_line_of(entry))

    def _write(self, text: str) -> None:
        data = text.encode() + b"\n"
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


def _line_of(entry: Entry) -> str:
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
    return json.dumps(content, separators=(",", ":"))


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
