"""Runs the task that YMIR left in /in and leaves its results in /out.

python3 start.py [--env PATH/env.yaml]
"""

import sys

if sys.version_info < (3, 10):  # noqa: UP036 - told in a sentence, not a traceback
    sys.exit(
        "This repository needs Python 3.10 or later and torch 2.4 or later, and this is Python "
        f"{sys.version_info[0]}.{sys.version_info[1]}: use a live-code image built from "
        "docker/Dockerfile.live-code of this repository."
    )

from utils.installed import complaint

if __name__ == "__main__" and (missing := complaint()):
    sys.exit(missing)

import argparse
import logging
import os
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path

from utils.atomic import remove_unfinished
from utils.environment import log_to_console, provide_home
from utils.errors import Code, TaskError
from utils.first_error import error_left, write_error_file
from utils.shutdown import TOLD_TO_STOP, ShutdownHandler, Terminated
from ymir.task import Monitor, open_monitor, read_task


def read_options(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """What the command line says: which task, and whether this program started itself."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--env",
        type=Path,
        default=Path("/in/env.yaml"),
        metavar="PATH/env.yaml",
        help="the task: YMIR's is /in/env.yaml, `python -m tools.make_task` writes others",
    )
    # For the processes that this program starts: they leave the report of an error to it.
    parser.add_argument("--launched", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


def on_timeout(options: argparse.Namespace, monitor: Monitor) -> Callable[[Sequence[int]], object]:
    """What a thread says of a task that SIGTERM has not brought to its end in time."""

    def speak(held: Sequence[int]) -> None:
        first = write_error_file(Code.CONTAINER, TOLD_TO_STOP, "", environment=os.environ)
        if first and not options.launched:
            monitor.fail_now(Code.CONTAINER, TOLD_TO_STOP)
            os.write(1, f"\nFAILED ({int(Code.CONTAINER)}): {TOLD_TO_STOP}\n".encode())
        remove_unfinished(monitor.path.parent, {os.getpid(), *held})

    return speak


if __name__ == "__main__":
    provide_home(os.environ)  # before matplotlib and torch look for a home
    own = ShutdownHandler()
    told = read_options()
    own.on_timeout = on_timeout(told, open_monitor(told.env))
    own.until_the_end()  # and before the seconds that the imports take

from tasks.run import processes_for, run, run_in_processes, run_share
from utils.classify_error import explain
from utils.distributed import DistContext
from utils.logs import ShareDone
from utils.progress import Progress
from utils.redaction import redact

log = logging.getLogger("start")


def main(arguments: Sequence[str] | None = None, deadline: ShutdownHandler | None = None) -> int:
    """Run one task; return the exit status. The last line printed says how it ended."""
    options = read_options(arguments)
    processes = DistContext.of(os.environ)
    log_to_console(quiet=not processes.first)
    monitor = open_monitor(options.env)
    deadline = deadline or ShutdownHandler()
    deadline.on_timeout = on_timeout(options, monitor)
    try:
        with deadline.interruptible():
            task = read_task(options.env)
            progress = Progress(reporter(monitor, processes))
            count = 1 if processes.several else processes_for(task)
            if count > 1:
                program = [os.path.abspath(__file__), "--launched", "--env", str(options.env)]
                run_in_processes(task, count, program, progress, reload=monitor.reload)
            elif options.launched:
                monitor.reload()
                run_share(task, progress, processes)
            else:
                run(task, progress, processes)
    except (Exception, KeyboardInterrupt) as error:
        code, sentence = explain(error)
        sentence, trace = redact(sentence), redact(traceback.format_exc())
        first = write_error_file(code, sentence, trace, environment=os.environ)
        # Where there is neither a task nor its out/, nobody reads the record.
        read = options.env.is_file() or monitor.path.parent.is_dir()
        if first and read and not options.launched:
            monitor.reload()
            monitor.fail(code, sentence, trace)
        if not (options.launched and isinstance(error, Terminated)):
            # Else another one has failed, and who started both says so.
            if not isinstance(error, TaskError):  # which says all that a user can act on
                print(trace, end="")
            print(f"FAILED ({int(code)}): {sentence}", flush=True)
        return deadline.settle(1)
    status = deadline.settle(0)
    if status == 0 and processes.first and not options.launched:
        print("DONE: every result is written.", flush=True)
    return status


def reporter(monitor: Monitor, processes: DistContext) -> Callable[[float], object]:
    """Who hears of progress: monitor and log, from the first process, until one has failed."""
    share = ShareDone(log)

    def report(fraction: float) -> None:
        if processes.first and not error_left(os.environ):
            monitor.report(fraction)
            share.tell(fraction)

    return report


if __name__ == "__main__":
    sys.exit(main(deadline=own))
