"""The end of a command that somebody typed: a status, and a sentence for what a user causes."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from utils.classify_error import known_cause
from utils.shutdown import Terminated, how_it_was_stopped

log = logging.getLogger(__name__)

STOPPED, TERMINATED = 130, 143
"""Exit statuses after Ctrl-C and SIGTERM, as shells give them."""


@contextmanager
def resumed_by(command: Callable[[], str]) -> Iterator[None]:
    """Tell a command that is stopped within, by Ctrl-C or SIGTERM, which `command` goes on."""
    try:
        yield
    except KeyboardInterrupt as error:
        error.args = (command(),)
        raise


def run_command(main: Callable[[], object]) -> int:
    """Run a command and return its exit status, that of `main` if it returns one.

    What a user can cause is a sentence and no traceback; our own bugs keep theirs.
    """
    for stream in (sys.stdout, sys.stderr):
        if reconfigure := getattr(stream, "reconfigure", None):
            reconfigure(errors="backslashreplace")  # file names need not be UTF-8
    try:
        status = main()
        sys.stdout.flush()
    except KeyboardInterrupt as error:
        log.error("%s", how_it_was_stopped(error))
        return TERMINATED if isinstance(error, Terminated) else STOPPED
    except BrokenPipeError:  # `| head`: nobody reads any more, and nothing is to be said at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 1
    except Exception as error:
        cause = known_cause(error)
        if cause is None:
            raise
        log.error("FAILED: %s", cause[1])
        return 1
    return status if isinstance(status, int) else 0
