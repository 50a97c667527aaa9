"""Work that a task can do without: when it fails, that is a warning and not the end."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def best_effort(what: str, log: logging.Logger) -> Iterator[None]:
    """Run a block whose failure must not cost the results: any exception becomes a warning.

    `what` is what will be missing. For drawings and pages only: they handle foreign names and
    figures of every kind, and the model or the scores they show are worth more.
    """
    try:
        yield
    except Exception as error:
        log.warning(
            "%s could not be made (%s: %s); the results are not affected",
            what,
            type(error).__name__,
            error,
            exc_info=True,
        )
