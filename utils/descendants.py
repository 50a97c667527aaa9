"""Every process that descends from one: found, held still, ended."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

PROCESSES = Path("/proc")


def descendants(parent: int, *, processes: Path = PROCESSES) -> list[int]:
    """The children of a process, theirs and so on, the closest first; none without /proc."""
    children: dict[int, list[int]] = {}
    for status in processes.glob("[0-9]*/stat"):
        try:
            text = status.read_text("utf-8", "replace")
            # The name before it, in brackets, may hold blanks and brackets.
            above = int(text.rpartition(")")[2].split()[1])
        except (OSError, ValueError, IndexError):
            continue  # it has just ended
        children.setdefault(above, []).append(int(status.parent.name))
    found = [parent]
    for one in found:
        found += sorted(children.get(one, ()))
    return found[1:]


def hold_descendants(parent: int) -> list[int]:
    """Stop all descendants of a process where they stand, so that none starts another."""
    held: dict[int, None] = {}
    while fresh := [one for one in descendants(parent) if one not in held]:
        _send(fresh, signal.SIGSTOP)
        held.update(dict.fromkeys(fresh))
    return list(held)


def kill(processes: Iterable[int]) -> None:
    """End processes for good; it does not matter whether they listen, or are stopped."""
    _send(processes, signal.SIGKILL)


def _send(processes: Iterable[int], number: signal.Signals) -> None:
    for one in processes:
        with suppress(OSError):
            os.kill(one, number)
