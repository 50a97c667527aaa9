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

import argparse
import logging
import os
import signal
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path

from utils.container import log_to_console, provide_home

if __name__ == "__main__":
    provide_home(os.environ)  # before matplotlib and torch look for a home

from tasks import processes_for, run, run_in_processes, run_share
from utils.distributed import Processes
from utils.errors import Code
from utils.failures import explain
from utils.first_error import error_left, leave_error
from utils.log_pace import ShareDone
from utils.progress import Progress
from utils.redaction import redact
from utils.termination import Terminated, terminable
from utils.ymir_yolov5 import Monitor, open_monitor, read_task

log = logging.getLogger("start")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one task; return the exit status. The last line printed says how it ended."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--env", type=Path, default=Path("/in/env.yaml"))
    # For the processes that this program starts: they leave the report of an error to it.
    parser.add_argument("--launched", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    processes = Processes.of(os.environ)
    log_to_console(quiet=not processes.first)
    monitor = open_monitor(options.env)

    def fail(code: Code, sentence: str, trace: str = "") -> None:
        if leave_error(code, sentence, trace, environment=os.environ) and not options.launched:
            monitor.catch_up()
            monitor.fail(code, sentence, trace)

    try:
        with terminable(lambda: fail(*explain(Terminated()))):
            task = read_task(options.env)
            progress = Progress(reporter(monitor, processes))
            count = 1 if processes.several else processes_for(task)
            if count > 1:
                program = [os.path.abspath(__file__), "--launched", "--env", str(options.env)]
                run_in_processes(task, count, program, progress, catch_up=monitor.catch_up)
            elif options.launched:
                monitor.catch_up()
                run_share(task, progress, processes)
            else:
                run(task, progress, processes)
    except (Exception, KeyboardInterrupt) as error:
        code, sentence = explain(error)
        sentence, trace = redact(sentence), redact(traceback.format_exc())
        fail(code, sentence, trace)
        if options.launched and isinstance(error, Terminated):
            return 1  # another has failed, and who started both says so
        print(trace, end="")
        print(f"FAILED ({int(code)}): {sentence}", flush=True)
        return 1
    if not options.launched and processes.first:
        print("DONE: every result is written.", flush=True)
    return 0


def reporter(monitor: Monitor, processes: Processes) -> Callable[[float], object]:
    """Who hears of progress: monitor and log, from the first process, until one has failed."""
    share = ShareDone(log)

    def report(fraction: float) -> None:
        if processes.first and not error_left(os.environ):
            monitor.report(fraction)
            share.tell(fraction)

    return report


if __name__ == "__main__":
    # What `main` finds here is back when it ends: a late signal changes no ending any more.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    sys.exit(main())
