"""A mining or inference task in several processes on the CPU.

`python tests/sharing_example.py COUNT ENV [FATE]`: FATE is what happens to the processes.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import start
from inference.journal import Record, ShardWriter
from utils.errors import Code, TaskError


def killed(writer: ShardWriter, record: Record) -> None:
    """As the system does when memory runs out."""
    os.kill(os.getpid(), signal.SIGKILL)


def damaged(writer: ShardWriter, record: Record) -> None:
    """An error on every rank."""
    raise TaskError(Code.NOT_A_NUMBER, "the weights are damaged.")


FATES = {"killed": killed, "damaged": damaged}

if __name__ == "__main__":
    if "--launched" in sys.argv:
        if fate := os.environ.get("FATE"):
            ShardWriter.append = FATES[fate]  # type: ignore[method-assign]
        sys.exit(start.main())
    count = int(sys.argv[1])
    if len(sys.argv) > 3:
        os.environ["FATE"] = sys.argv[3]
    start.processes_for = lambda task: count
    start.__file__ = __file__
    sys.exit(start.main(["--env", sys.argv[2]]))
