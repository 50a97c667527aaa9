"""Run a program in several processes by torch's elastic launcher; if one fails, all end."""

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

from utils.errors import Code, TaskError, read_error_file
from utils.shutdown import Terminated

log = logging.getLogger(__name__)

SIGNALS = [
    getattr(signal, name)
    for name in ("SIGTERM", "SIGINT", "SIGHUP", "SIGQUIT")
    if hasattr(signal, name)  # Windows has two of them
]
"""Signals whose handlers torch's launcher replaces and does not restore."""
ADVICE = "set cache to none, or lower batch_size or workers"


class FailedProcessError(Exception):
    """The traceback of a process that failed."""


class KilledError(TaskError):
    """A process was killed from outside, such as for lack of memory."""


def launch_until_done(
    count: int, program: Sequence[str], *, done: Callable[[], int], what: str, advice: str
) -> None:
    """Launch again whenever a process is killed, until two starts in a row finish nothing.

    `done` counts what the program has finished on disk, from where it must resume by itself. An
    error other than KilledError is raised at once.
    """
    fruitless = False
    while True:
        before = done()
        try:
            return launch(count, program, what=what, advice=advice)
        except KilledError as error:
            nothing = done() == before
            if nothing and fruitless:
                raise
            fruitless = nothing
            log.warning("%s What was finished is kept; starting again.", error.sentence)


def launch(
    count: int, program: Sequence[str], *, what: str = "training", advice: str = ADVICE
) -> None:
    """Run `program` (a Python file and its arguments) in `count` processes of this machine.

    Raises TaskError with the first error of any of them, after the others were ended; KilledError,
    in whose sentence `what` and `advice` stand, if one was killed; Terminated on SIGTERM.
    """
    with _restored_handlers(), tempfile.TemporaryDirectory(prefix="ymir-yolov5-") as folder:
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
            written = read_error_file(Path(folder))
            trace = written[2] if written else "(no traceback)"
            raise _first_failure(error, written, what, advice) from FailedProcessError(trace)
        except SignalException as error:
            if error.sigval == signal.SIGTERM:
                raise Terminated from None
            sentence = f"the task was ended from outside ({signal.Signals(error.sigval).name})."
            raise TaskError(Code.CONTAINER, sentence) from None


@contextmanager
def _restored_handlers() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _first_failure(
    error: ChildFailedError, written: tuple[Code, str, str] | None, what: str, advice: str
) -> TaskError:
    # SIGTERM is what the launcher ends the others with.
    own = {rank: one for rank, one in error.failures.items() if one.exitcode != -signal.SIGTERM}
    killed = {rank: one for rank, one in own.items() if one.exitcode < 0}
    # A killed process writes no error file; what the others write then is that it is gone.
    if killed:
        rank, one = min(killed.items())
        return KilledError(
            Code.CONTAINER,
            f"process {rank} of the {what} was killed ({one.signal_name()}), as the system does "
            f"when memory runs out: {advice}.",
        )
    if written is not None:
        return TaskError(written[0], written[1])
    rank, one = min((own or error.failures).items())
    return TaskError(
        Code.CONTAINER,
        f"process {rank} of the {what} ended with status {one.exitcode}: the log above says why.",
    )
