"""A program whose training pauses for good after an epoch, for tests to send it signals.

    PAUSE="0 sleep" GRACE=1 RANKS=2 python -m tests.paused_example start.py --env ENV

PAUSE names an epoch, and `sleep` or `deadlock` (in C, which hears no signal); GRACE are seconds
from SIGTERM to the end by force; with RANKS the task runs as if so many GPUs were granted.
"""

from __future__ import annotations

import ctypes
import os
import runpy
import sys
import time
from collections.abc import Sequence
from typing import Any

import tasks.run as tasks
from training import loop
from utils.shutdown import ShutdownHandler


def pause_after(epoch: int, how: str) -> None:
    """Have rank 0 pause as soon as the state of an epoch is saved; it prints PAUSED."""
    save = loop.save_epoch

    def save_epoch(state: loop.TrainState, number: int, *rest: Any) -> Any:
        saved = save(state, number, *rest)
        if number == epoch:
            print("PAUSED", flush=True)
            if how == "sleep":
                time.sleep(3600)
            mutex, library = ctypes.create_string_buffer(64), ctypes.CDLL(None)
            library.pthread_mutex_lock(mutex)
            library.pthread_mutex_lock(mutex)
        return saved

    loop.save_epoch = save_epoch


def run_in_ranks(count: int) -> None:
    """Run a task in so many processes, which pause as this one would."""
    launch = tasks.launch

    def launch_paused(count: int, program: Sequence[str], **more: str) -> None:
        launch(count, ["-m", "tests.paused_example", *program], **more)

    tasks.processes_for = lambda task: count
    tasks.launch = launch_paused


if __name__ == "__main__":
    if pause := os.environ.get("PAUSE"):
        pause_after(int(pause.split()[0]), pause.split()[1])
    if grace := os.environ.get("GRACE"):
        ShutdownHandler.__init__.__kwdefaults__["grace"] = float(grace)
    if ranks := os.environ.get("RANKS"):
        run_in_ranks(int(ranks))
    sys.argv = sys.argv[1:]
    runpy.run_path(sys.argv[0], run_name="__main__")
