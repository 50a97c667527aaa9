"""How a command ends: a user's mistake is one sentence and exit status 1, not a traceback."""

from __future__ import annotations

import logging
from collections.abc import Callable

from utils.errors import TaskError

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
