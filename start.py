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

from utils.environment import missing_packages, provide_home

if __name__ == "__main__" and (missing := missing_packages()):
    sys.exit(missing)

import argparse
import logging
import os
import shlex
import traceback
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path

from utils.errors import Code, has_error_file, write_error_file
from utils.language.catalogue import Catalogue, catalogue
from utils.logs import PercentLogger, log_to_console, redact
from utils.shutdown import (
    TOLD_TO_STOP,
    ShutdownHandler,
    Terminated,
    exit_process,
    listen_for_interrupts,
)
from ymir.monitor import Monitor
from ymir.task import open_monitor, read_task, task_language


def read_options(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line: which task, and whether this program launched itself."""
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


def report_timeout(options: argparse.Namespace, monitor: Monitor) -> None:
    """Report a task that did not end in time after SIGTERM, beside a main thread that hangs."""
    if write_error_file(Code.CONTAINER, TOLD_TO_STOP, "") and not options.launched:
        sentence = catalogue(task_language(options.env)).text(TOLD_TO_STOP)
        monitor.fail_now(Code.CONTAINER, sentence)
        os.write(1, f"\nFAILED ({int(Code.CONTAINER)}): {sentence}\n".encode())


if __name__ == "__main__":
    listen_for_interrupts()
    provide_home()  # before matplotlib and torch look for a home
    given = read_options()
    record = open_monitor(given.env)
    # Before the seconds that the imports take.
    shutdown = ShutdownHandler(lambda: report_timeout(given, record))

from tasks.run import processes_for, run, run_in_processes, run_rank
from utils.classify_error import explain, known_cause
from utils.distributed import DistContext
from utils.progress import Progress

log = logging.getLogger("start")


def main(
    arguments: Sequence[str] | None = None,
    *,
    handler: ShutdownHandler | None = None,
    monitor: Monitor | None = None,
) -> int:
    """Run one task and return the exit status. The last line printed says how it ended."""
    options = read_options(arguments)
    processes = DistContext.from_environment()
    language = task_language(options.env)
    log_to_console(quiet=not processes.is_main, language=language)
    monitor = monitor or open_monitor(options.env)
    status = 0
    try:
        with handler.interruptible() if handler else nullcontext():
            run_task(options, monitor, processes)
    except (Exception, KeyboardInterrupt) as error:
        if not (handler and handler.forced):
            report_error(error, options, monitor, catalogue(language))
        status = 1
    if handler:
        status = handler.set_exit_status(status)
    if status == 0 and processes.is_main and not options.launched:
        print(catalogue(language).text("DONE: every result is written."), flush=True)
    return status


def run_task(options: argparse.Namespace, monitor: Monitor, processes: DistContext) -> None:
    """Run the task that `options.env` describes, in one process per GPU."""
    task = read_task(options.env)
    progress = Progress(progress_reporter(monitor, processes))
    count = 1 if processes.is_distributed else processes_for(task)
    if count > 1:
        program = [os.path.abspath(__file__), "--launched", "--env", str(options.env)]
        run_in_processes(task, count, program, progress, reload=monitor.reload)
    elif options.launched:
        monitor.reload()
        run_rank(task, progress, processes)
    else:
        run(task, progress, processes)


def report_error(
    error: BaseException, options: argparse.Namespace, monitor: Monitor, texts: Catalogue
) -> None:
    """Report the error that ended the task: in monitor.txt, once, and as the last line printed.

    Both in the language of `texts`; between processes it is English.
    """
    code, sentence = explain(error)
    sentence, trace = redact(sentence), redact(traceback.format_exc())
    first = write_error_file(code, sentence, trace)
    # Where there is neither a task nor its out/, nobody reads the record.
    read = options.env.is_file() or monitor.path.parent.is_dir()
    if first and read and not options.launched:
        monitor.reload()
        monitor.fail(code, texts.text(sentence), trace)
    if not (options.launched and isinstance(error, Terminated)):
        # Else another rank has failed, and the launching process says so.
        if known_cause(error) is None:  # else the sentence says all that a user can act on
            print(trace, end="")
        if isinstance(error, KeyboardInterrupt):
            command = shlex.join(["python", "start.py", "--env", str(options.env)])
            sentence = f"{sentence} The command: {command}"
        print(f"FAILED ({int(code)}): {texts.text(sentence)}", flush=True)


def progress_reporter(monitor: Monitor, processes: DistContext) -> Callable[[float], object]:
    """Return a callback that reports progress to monitor and log, from rank 0 until one fails."""
    percent = PercentLogger(log)

    def on_progress(fraction: float) -> None:
        if processes.is_main and not has_error_file():
            monitor.report(fraction)
            percent.on_progress(fraction)

    return on_progress


if __name__ == "__main__":
    exit_process(main(handler=shutdown, monitor=record))
