"""A task in two processes on the CPU for the tests to kill: `python -m tests.killing_example ENV`;
and what finds one of several processes and reads a file without pause.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import start


def processes_below(parent: int) -> list[int]:
    """Every process that descends from one, the closest first."""
    found = [parent]
    for one in found:
        for task in Path(f"/proc/{one}/task").glob("*/children"):
            try:
                found += [int(child) for child in task.read_text().split()]
            except OSError:
                continue
    return found[1:]


def process_of_rank(parent: int, rank: int) -> int | None:
    """The closest process below one that torch's launcher gave this rank."""
    for process in processes_below(parent):
        try:
            if f"RANK={rank}".encode() in Path(f"/proc/{process}/environ").read_bytes().split(
                b"\0"
            ):
                return process
        except OSError:
            continue
    return None


def wait_for(what: Callable[[], bool], seconds: float) -> bool:
    """Whether it became true in time."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if what():
            return True
        time.sleep(0.01)
    return False


def kill_rank(parent: int, rank: int) -> None:
    """SIGKILL for one of several processes, which must be there."""
    process = process_of_rank(parent, rank)
    assert process is not None
    os.kill(process, signal.SIGKILL)


@contextmanager
def read_without_pause(path: Path) -> Iterator[list[str]]:
    """Every first line that a file has had, as far as a reader that never rests sees them."""
    seen: list[str] = []
    over = threading.Event()

    def read() -> None:
        while not over.is_set():
            try:
                line = path.read_text("utf-8").split("\n", 1)[0]
            except OSError:
                continue
            if not seen or seen[-1] != line:
                seen.append(line)

    reader = threading.Thread(target=read)
    reader.start()
    try:
        yield seen
    finally:
        over.set()
        reader.join()


if __name__ == "__main__":
    start.processes_for = lambda task: 2
    sys.exit(start.main(["--env", sys.argv[1]]))
