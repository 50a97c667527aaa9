"""Ranks that are killed and come late, for tests to restart by torchrun.

`torchrun ... -m tests.restarting_example FOLDER LIVES`: in each of the first LIVES starts one
rank is killed while the other waits for it; the killed one is late in the next start. FOLDER
counts the starts, and has a file `done RANK` from each one that got to its end.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import torch

from utils.distributed import DistContext
from utils.shutdown import exit_process

LATE = 2.0
"""Seconds after the other, which has looked for this one by then."""


def live(processes: DistContext, folder: Path, lives: int) -> None:
    """Start one rank once."""
    start = len(list(folder.glob(f"start * {processes.rank}")))
    (folder / f"start {start} {processes.rank}").touch()
    if start and processes.rank == start % 2:
        time.sleep(LATE)
    with processes.process_group(torch.device("cpu")):
        assert processes.broadcast(start) == start
        if start < lives:
            if processes.rank == (start + 1) % 2:
                os.kill(os.getpid(), signal.SIGKILL)
            processes.all_reduce(torch.zeros(1))  # to which one never comes
    (folder / f"done {processes.rank}").touch()


if __name__ == "__main__":
    live(DistContext.from_environment(), Path(sys.argv[1]), int(sys.argv[2]))
    exit_process(0)
