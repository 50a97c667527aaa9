"""A program in several processes at once, by torch's own launcher: one fails, all end."""

from __future__ import annotations

import logging
import signal
import sys
import tempfile
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from utils.errors import Code, TaskError
from utils.first_error import first_error

log = logging.getLogger(__name__)

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)
"""What torch's launcher listens to, and goes on listening to when it has ended."""
ADVICE = "set cache to none, or lower batch_size or workers"


class FailedProcessError(Exception):
    """What a process that failed had printed as its traceback."""


class KilledError(TaskError):
    """A process was killed: nothing that it did itself was wrong."""


def launch_until_done(
    count: int,
    program: Sequence[str],
    *,
    done: Callable[[], int],
    what: str,
    advice: str,
) -> None:
    """As `launch`; started again when a process is killed, until two starts in a row do nothing.

    `done` counts what the program has finished, on disk: it must go on there by itself. Another
    error than KilledError ends it at once.
    """
    fruitless = False
    while True:
        before = done()
        try:
            launch(count, program, what=what, advice=advice)
        except KilledError as error:
            nothing = done() == before
            if nothing and fruitless:
                raise
            fruitless = nothing
            log.warning("%s What was finished is kept; starting again.", error.sentence)
        else:
            return


def launch(
    count: int, program: Sequence[str], *, what: str = "training", advice: str = ADVICE
) -> None:
    """Run `program` (a Python file and its arguments) in `count` processes of this machine.

    `what` they do, and what helps if memory runs out, stand in the error. Raises TaskError with the
    first error of any of them, after the others were ended; KilledError if one was killed.
    """
    with _handlers_kept(), tempfile.TemporaryDirectory(prefix="ymir-yolov5-") as folder:
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
            told = _told(error, Path(folder), what, advice)
            raise told from FailedProcessError(_trace(Path(folder)))
        except SignalException as error:
            name = signal.Signals(error.sigval).name
            raise TaskError(Code.CONTAINER, f"the task was ended from outside ({name}).") from None


@contextmanager
def _handlers_kept() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _told(error: ChildFailedError, folder: Path, what: str, advice: str) -> TaskError:
    # SIGTERM is what the launcher ends the others with.
    own = {rank: one for rank, one in error.failures.items() if one.exitcode != -signal.SIGTERM}
    killed = {rank: one for rank, one in own.items() if one.exitcode < 0}
    left = first_error(folder)
    # One that is killed leaves no word; what the others say then is that it is gone.
    if killed:
        rank, one = min(killed.items())
        return KilledError(
            Code.CONTAINER,
            f"process {rank} of the {what} was killed ({one.signal_name()}), as the system does "
            f"when memory runs out: {advice}.",
        )
    if left is not None:
        return TaskError(left[0], left[1])
    rank, one = min((own or error.failures).items())
    return TaskError(
        Code.CONTAINER,
        f"process {rank} of the {what} ended with status {one.exitcode}: the log above says why.",
    )


def _trace(folder: Path) -> str:
    left = first_error(folder)
    return left[2] if left else "(no traceback)"
