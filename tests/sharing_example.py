"""A mining or inference task in several processes on the CPU.

`python tests/sharing_example.py COUNT ENV`: COUNT processes, or 0 under torchrun. The variable FATE
says what happens to those that have it.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import start
from inference import shards
from inference.journal import Record
from inference.shards import ShardWriter
from tasks import shared
from utils.errors import Code, TaskError

append = ShardWriter.append


def killed(writer: ShardWriter, record: Record) -> None:
    """As the system does when memory runs out."""
    os.kill(os.getpid(), signal.SIGKILL)


def damaged(writer: ShardWriter, record: Record) -> None:
    """An error on every rank."""
    raise TaskError(Code.NOT_A_NUMBER, "the weights are damaged.")


def lost(writer: ShardWriter, record: Record) -> None:
    """A machine loses its power while a rank computes its second shard."""
    append(writer, record)
    if len(writer._claims) > 1 or len(list(writer._folder.glob("*.jsonl"))) > 1:
        os.kill(os.getppid(), signal.SIGKILL)
        os.kill(os.getpid(), signal.SIGKILL)


FATES = {"killed": killed, "damaged": damaged, "lost": lost}

if __name__ == "__main__":
    count = 0 if "--launched" in sys.argv else int(sys.argv[1])
    fate = os.environ.get("FATE")
    if fate and not count:
        ShardWriter.append = FATES[fate]  # type: ignore[method-assign]
    shards.INTERVAL, shards.PATIENCE, shared.FOLDER_SEEN = 0.2, 3.0, 2.0
    if count:
        start.processes_for = lambda task: count
        start.__file__ = __file__
    sys.exit(start.main(["--env", sys.argv[2]] if "--launched" not in sys.argv else None))
