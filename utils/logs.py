"""Progress as lines of a log: few enough to be read, and none that overwrites another."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping

AT_LEAST = 10.0
"""Seconds between two lines about progress."""
QUIET = 30.0
"""Seconds without such a line after which the share that is done is told."""
PROGRESS: Mapping[str, object] = {"about_progress": True}
"""`extra` of a record that tells of progress: it is left out if one came just before."""


class Pace(logging.Filter):
    """Lets a record about progress pass when the last one is long enough ago; all others always.

    At most one line in ten seconds comes through, the first at once. `patient` (a terminal, where
    somebody watches) lets everything pass.
    """

    def __init__(
        self,
        *,
        interval: float = AT_LEAST,
        patient: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__()
        self._interval = interval
        self._patient = patient
        self._clock = clock
        self._last: float | None = None

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether a record is shown."""
        if self._patient or not getattr(record, "about_progress", False):
            return True
        now = self._clock()
        if self._last is not None and now - self._last < self._interval:
            return False
        self._last = now
        return True


class ShareDone:
    """Told the share that is done, it logs a line about it now and then, with the time left."""

    def __init__(
        self,
        log: logging.Logger,
        *,
        interval: float = QUIET,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._log = log
        self._interval = interval
        self._clock = clock
        self._began = self._last = clock()

    def tell(self, fraction: float) -> None:
        """`fraction` (0 to 1) of the task is done."""
        now = self._clock()
        if now - self._last < self._interval or fraction >= 1:
            return
        self._last = now
        spent = now - self._began
        left = f", about {duration(spent / fraction - spent)} to go" if fraction > 0.02 else ""
        self._log.info("%.0f%% done in %s%s", 100 * fraction, duration(spent), left, extra=PROGRESS)


def duration(seconds: float) -> str:
    """A time in the two largest units that matter: '42 s', '3 min 5 s', '2 h 10 min'."""
    whole = max(round(seconds), 0)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
