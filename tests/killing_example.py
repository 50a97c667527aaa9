"""Processes for tests to kill: started, found by their rank, and watched."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.conftest import ROOT
from utils.shutdown import processes_below


@contextmanager
def running(log: Path, *words: object, **variables: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run a Python program with one thread a process; its output is appended to `log`."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **variables}
    command = [sys.executable, *map(str, words)]
    with log.open("ab") as file:
        process = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=file, stderr=subprocess.STDOUT
        )
    try:
        yield process
    finally:
        # Launched ranks are sessions of their own, and outlive a launcher that is killed.
        for one in (*processes_below(process.pid), process.pid):
            with suppress(ProcessLookupError):
                os.kill(one, signal.SIGKILL)
        process.wait()


def is_alive(process: int) -> bool:
    """Whether a process is there, and not only waiting to be reaped."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def process_of_rank(parent: int, rank: int) -> int:
    """The closest process below one that torch's launcher gave this rank."""
    word = f"RANK={rank}".encode()
    for process in processes_below(parent):
        try:
            if word in Path(f"/proc/{process}/environ").read_bytes().split(b"\0"):
                return process
        except OSError:
            continue
    raise AssertionError(f"there is no rank {rank}")


def wait_for(condition: Callable[[], bool], seconds: float) -> bool:
    """Whether it became true in time."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.01)
    return False


def kill_rank(parent: int, rank: int) -> None:
    """SIGKILL for one of several processes, which must be there."""
    os.kill(process_of_rank(parent, rank), signal.SIGKILL)


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
