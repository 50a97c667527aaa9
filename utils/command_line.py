"""How a command ends: a user's mistake is one sentence and exit status 1, not a traceback."""

from __future__ import annotations

import atexit
import logging
import os
import sys
from collections.abc import Callable
from typing import NoReturn

from utils.distributed import DistContext
from utils.errors import TaskError
from utils.shutdown import end_at_once

log = logging.getLogger(__name__)


def run_command(main: Callable[[], object]) -> int:
    """Run a command; the exit status."""
    try:
        main()
    except TaskError as error:
        log.error("FAILED: %s", error.sentence)
        return 1
    except KeyboardInterrupt:
        log.error("stopped by the keyboard")
        return 130
    return 0


def leave(status: int) -> NoReturn:
    """End the process; one of several is spared the interpreter's own end.

    The threads of gloo outlive their group where DistributedDataParallel has held it. One that
    frees a tensor needs the interpreter, and while that ends it is cut off in the midst of C++,
    which aborts a process whose work is done.
    """
    if DistContext.of(os.environ).several:
        atexit._run_exitfuncs()
        end_at_once(status)
    sys.exit(status)
