"""Signals at random moments: SIGKILL as the platform terminates, SIGTERM as an operator stops."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import time
from pathlib import Path

from bench.fault_tasks import Outcome, finishes, last_code, left_behind, start
from bench.fault_watch import Watch

TOO_LATE = ", too late"
"""What the name of the fault ends with where the task was whole before the signal."""
TOLD = 10.0
"""Seconds from SIGTERM to the end that a container is given."""


def disturb(task: Path, kind: str, number: signal.Signals, moment: float) -> Outcome:
    """Start the task, send the signal, look at what is left, let it finish.

    SIGKILL comes `moment` seconds after the start; SIGTERM so long after monitor.txt first says
    that a part of the work is done.
    """
    told = number == signal.SIGTERM
    with Watch(task / "out" / "monitor.txt") as watch:
        process, began = start(task), time.monotonic()
        while told and not watch.progress and process.poll() is None:
            time.sleep(0.01)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(moment)
        after = time.monotonic() - began
        finished = process.poll() is not None
        sent_at = time.monotonic()
        process.send_signal(number)
        status = process.wait()
        ended_in = time.monotonic() - sent_at
        # A task that was whole when it was told, but not gone yet, ends as if nothing had been.
        finished = finished or (told and status == 0)
        kept, wrong = left_behind(task, orderly=told or finished, failed=not finished)
        if told and status != (0 if finished else 1):
            wrong.append(f"it ended with {status}")
        ended = last_code(task) or ("0" if finished else number.name)
        if told and ended_in > TOLD:
            wrong.append(f"it took {ended_in:.1f} s to end")
        watch.started_again()
        wrong += finishes(task)
    wrong += [f"a record of monitor.txt was {record[:80]!r}" for record in watch.broken[:3]]
    fault = f"{number.name} at a random moment" + (TOO_LATE if finished else "")
    seconds = None if finished else ended_in
    return Outcome(kind, fault, after, ended, seconds, watch.reads, kept, tuple(wrong))
