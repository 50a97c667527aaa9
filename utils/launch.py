"""A program in several processes at once, by torch's own launcher: one fails, all end."""

from __future__ import annotations

import signal
import sys
import tempfile
import uuid
from collections.abc import Sequence
from pathlib import Path

from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from utils.errors import Code, TaskError
from utils.first_error import first_error


class FailedProcessError(Exception):
    """What a process that failed had printed as its traceback."""


def launch(count: int, program: Sequence[str]) -> None:
    """Run `program` (a Python file and its arguments) in `count` processes of this machine.

    Raises TaskError with the first error of any of them, after the others were ended.
    """
    with tempfile.TemporaryDirectory(prefix="ymir-yolov5-") as folder:
        config = LaunchConfig(
            min_nodes=1,
            max_nodes=1,
            nproc_per_node=count,
            run_id=uuid.uuid4().hex,
            rdzv_backend="c10d",
            rdzv_endpoint="localhost:0",
            local_addr="127.0.0.1",
            max_restarts=0,
            monitor_interval=0.2,
            logs_specs=DefaultLogsSpecs(log_dir=folder),
        )
        try:
            elastic_launch(config, sys.executable)("-u", *program)
        except ChildFailedError as error:
            raise _told(error, Path(folder)) from FailedProcessError(_trace(Path(folder)))
        except SignalException as error:
            name = signal.Signals(error.sigval).name
            raise TaskError(Code.CONTAINER, f"the task was ended from outside ({name}).") from None


def _told(error: ChildFailedError, folder: Path) -> TaskError:
    # SIGTERM is what the launcher ends the others with.
    own = {rank: one for rank, one in error.failures.items() if one.exitcode != -signal.SIGTERM}
    killed = {rank: one for rank, one in own.items() if one.exitcode < 0}
    left = first_error(folder)
    # One that is killed leaves no word; what the others say then is that it is gone.
    if killed:
        rank, one = min(killed.items())
        return TaskError(
            Code.CONTAINER,
            f"process {rank} of the training was killed ({one.signal_name()}), as the system does "
            "when memory runs out: set cache to none, or lower batch_size or workers.",
        )
    if left is not None:
        return TaskError(left[0], left[1])
    rank, one = min((own or error.failures).items())
    return TaskError(
        Code.CONTAINER,
        f"process {rank} of the training ended with status {one.exitcode}: the log above says why.",
    )


def _trace(folder: Path) -> str:
    left = first_error(folder)
    return left[2] if left else "(no traceback)"
