"""Runs the task that YMIR left in /in and leaves its results in /out.

python3 start.py [--env PATH/env.yaml]
"""

import sys

if sys.version_info < (3, 10):  # noqa: UP036 - told in a sentence, not a traceback
    sys.exit(
        "This repository needs Python 3.10 or later and torch 2.4 or later: run it in a "
        "live-code image with a current Python."
    )

import argparse
import logging
import os
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path

from utils.container import log_to_console, provide_home

if __name__ == "__main__":
    provide_home(os.environ)  # before matplotlib and torch look for a home

from tasks import processes_for, run
from utils.distributed import Processes
from utils.failures import explain
from utils.first_error import error_left, leave_error
from utils.launch import launch
from utils.progress import Progress
from utils.ymir_yolov5 import Monitor, open_monitor, read_task

log = logging.getLogger("start")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one task; return the exit status. The last line printed says how it ended."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--env", type=Path, default=Path("/in/env.yaml"))
    env_file = parser.parse_args(arguments).env
    processes = Processes.of(os.environ)
    log_to_console(quiet=not processes.first)
    monitor = open_monitor(env_file)
    try:
        task = read_task(env_file)
        count = 1 if processes.several else processes_for(task)
        if count > 1:
            launch(count, [os.path.abspath(__file__), "--env", str(env_file)])
        else:
            run(task, Progress(reporter(monitor, processes)), processes)
    except (Exception, KeyboardInterrupt) as error:
        code, sentence = explain(error)
        if leave_error(code, sentence, traceback.format_exc(), environment=os.environ):
            monitor.catch_up()
            monitor.fail(code, sentence, traceback.format_exc())
        traceback.print_exc(file=sys.stdout)
        print(f"FAILED ({int(code)}): {sentence}", flush=True)
        return 1
    if processes.first:
        print("DONE: every result is written.", flush=True)
    return 0


def reporter(monitor: Monitor, processes: Processes) -> Callable[[float], object]:
    """Who hears of progress: the monitor, from the first process, until one of them has failed."""

    def report(fraction: float) -> None:
        if processes.first and not error_left(os.environ):
            monitor.report(fraction)

    return report


if __name__ == "__main__":
    sys.exit(main())
