"""Finished rounds of an active-learning run as lines of a file that survives a kill at any time."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from utils.errors import Code, TaskError

START = "start"
"""The strategy that round 0 is recorded under: the starting set, which all strategies share."""


@dataclass(frozen=True)
class RoundResult:
    """One round that is over: which images were labelled, and how good the network then was."""

    seed: int
    strategy: str
    round_number: int
    """0 for the starting set."""
    added: tuple[str, ...]
    """The images labelled in this round, by the name of their file in the pool."""
    labels: int
    """Labelled images that the network was trained on, those of earlier rounds included."""
    boxes: int
    """Labelled boxes in them."""
    epochs: int
    map50: float
    map50_95: float
    losses: tuple[float, float, float]
    """Box, objectness and class loss on the validation split."""
    seconds: float

    @property
    def key(self) -> tuple[int, str, int]:
        """What makes a round this one: seed, strategy, number."""
        return self.seed, self.strategy, self.round_number


def append_result(path: Path, result: RoundResult) -> None:
    """Add one line and have it on disk when this returns; what a kill left half written goes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    line = json.dumps(asdict(result)).encode() + b"\n"
    with path.open("ab+") as file:
        file.seek(0)
        file.truncate(len(_whole_lines(file.read())))
        file.write(line)
        file.flush()
        os.fsync(file.fileno())


def read_results(path: Path) -> list[RoundResult]:
    """The rounds of a file in its order; none if there is no file.

    A last line without its end is what a kill left of a round that was not over: it is passed
    over. Raises TaskError(CONFIG) for another line that cannot be read or repeats a round.
    """
    if not path.is_file():
        return []
    results: dict[tuple[int, str, int], RoundResult] = {}
    for number, line in enumerate(_whole_lines(path.read_bytes()).splitlines(), start=1):
        result = _result_of(line, f"line {number} of {path}")
        if result.key in results:
            raise TaskError(
                Code.CONFIG,
                f"line {number} of {path} repeats round {result.round_number} of "
                f"{result.strategy}, seed {result.seed}; remove one of the two lines.",
            )
        results[result.key] = result
    return list(results.values())


def _whole_lines(content: bytes) -> bytes:
    return content[: content.rfind(b"\n") + 1]


def _result_of(line: bytes, where: str) -> RoundResult:
    names = {item.name for item in fields(RoundResult)}
    try:
        values = json.loads(line)
    except ValueError:  # bytes that are no text included
        values = None
    if not isinstance(values, dict) or set(values) != names:
        raise TaskError(
            Code.CONFIG,
            f"{where} is no finished round of this benchmark; remove the line, or name another "
            "folder with --out.",
        )
    values["added"] = tuple(values["added"])
    values["losses"] = tuple(values["losses"])
    return RoundResult(**values)


def finished_rounds(
    results: Sequence[RoundResult], *, seed: int, strategy: str, rounds: int
) -> list[RoundResult]:
    """The rounds of one curve that are over, from the starting set on, as far as without a gap."""
    known = {result.key: result for result in results}
    keys = [(seed, START, 0), *((seed, strategy, number) for number in range(1, rounds + 1))]
    over = []
    for key in keys:
        if key not in known:
            break
        over.append(known[key])
    return over


def check_setup(before: Mapping[str, object], now: Mapping[str, object], path: Path) -> None:
    """Refuse, with TaskError(CONFIG), to go on with a run that was begun in another way."""
    differs = [
        f"{name} was {before.get(name)}, is {now.get(name)}"
        for name in sorted({*before, *now})
        if before.get(name) != now.get(name)
    ]
    if differs:
        raise TaskError(
            Code.CONFIG,
            f"{path} is of another run ({'; '.join(differs)}): results of both cannot stand side "
            "by side; say what it was begun with, or name another folder with --out.",
        )


@contextmanager
def alone(path: Path, *, wait: bool = False) -> Iterator[None]:
    """Hold the lock file `path` for a block; a killed process holds it no longer.

    Raises TaskError(CONFIG) if another process holds it, unless told to wait.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            raise TaskError(
                Code.CONFIG,
                f"another process is at work in {path.parent}; wait for it, or give this one "
                "other --seeds.",
            ) from None
        yield
