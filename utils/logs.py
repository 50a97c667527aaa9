"""Console logging: few lines about progress, no secrets, and nothing that overwrites a line."""

from __future__ import annotations

import copy
import logging
import re
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from tqdm import tqdm

from utils.language.catalogue import ENGLISH, Catalogue, catalogue

LINE_INTERVAL = 10.0
"""Least seconds between two log lines about progress."""
PERCENT_INTERVAL = 30.0
"""Seconds between two lines that tell the percentage done."""
PROGRESS: Mapping[str, object] = {"about_progress": True}
"""`extra` of a record about progress: it is left out if one came just before."""

HIDDEN = "***"
_ADDRESS = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.\-]*://)[^\s/@'\"]+@")
_KEY = re.compile(
    r"(?P<key>[\w\-]*(?:password|passwd|secret|token|api[_\-]?key|access[_\-]?key|credential)[\w\-]*"
    r"['\"]?\s*(?:[=:：为是]|\bis\b)\s*)(?P<quote>['\"]?)(?P<value>[^\s'\",;&}\])]+)",
    re.IGNORECASE,
)
_BEARER = re.compile(r"(?P<word>\b(?:bearer|basic)\s+)[A-Za-z0-9+/=_.\-]{8,}", re.IGNORECASE)


def log_to_console(*, quiet: bool = False, language: str = ENGLISH) -> None:
    """Log plain lines to standard output, each flushed: the tail must survive a SIGKILL.

    Lines about progress come at most every ten seconds, or always at a terminal, where tqdm bars
    are redrawn below them. With `quiet` errors only, for ranks above 0. Lines are in `language`
    where its catalogue has them.
    """
    # File names need not be UTF-8, and a word about one must not end a task.
    sys.stdout.reconfigure(line_buffering=True, errors="backslashreplace")  # type: ignore[union-attr]
    terminal = sys.stdout.isatty()
    handler = _TerminalHandler(sys.stdout) if terminal else logging.StreamHandler(sys.stdout)
    handler.setFormatter(_Formatter(catalogue(language)))
    if not terminal:
        handler.addFilter(ProgressFilter())
    level = logging.ERROR if quiet else logging.INFO
    logging.basicConfig(handlers=[handler], level=level, force=True)
    logging.raiseExceptions = False  # a reader that goes away (`| head`) ends no work
    for noisy in ("matplotlib", "PIL", "onnxscript", "onnx_ir", "torch.onnx", "tensorboard"):
        logging.getLogger(noisy).setLevel(logging.ERROR)


@contextmanager
def only_warnings() -> Iterator[None]:
    """Show warnings and errors only, while something runs that tells its result in one line."""
    root = logging.getLogger()
    level = root.level
    root.setLevel(max(level, logging.WARNING))
    try:
        yield
    finally:
        root.setLevel(level)


def redact(text: str) -> str:
    """Replace every recognisable secret in `text` by three stars.

    User and password of an address are replaced, the value of `token=abc`, `"password": "abc"` or
    `the setting api_key is 'abc'`, and that of an authorisation header.
    """
    text = _ADDRESS.sub(rf"\g<scheme>{HIDDEN}@", text)
    text = _KEY.sub(rf"\g<key>\g<quote>{HIDDEN}", text)
    return _BEARER.sub(rf"\g<word>{HIDDEN}", text)


class _Formatter(logging.Formatter):
    """A translated line without secrets, and without a carriage return that would overwrite it."""

    def __init__(self, texts: Catalogue) -> None:
        super().__init__("%(asctime)s %(message)s", "%H:%M:%S")
        self._texts = texts

    def format(self, record: logging.LogRecord) -> str:
        arguments = record.args
        if self._texts.texts and isinstance(arguments, tuple):  # a mapping has names, no order
            record = copy.copy(record)  # which other handlers get, too
            record.msg, record.args = self._texts.message(str(record.msg), arguments), ()
        return redact(super().format(record)).replace("\r", " ")


class _TerminalHandler(logging.StreamHandler):  # type: ignore[type-arg]
    """Write lines above the tqdm bars that are on the terminal."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            tqdm.write(self.format(record), file=self.stream)
        except Exception:
            self.handleError(record)


class ProgressFilter(logging.Filter):
    """Drop a record about progress that comes less than ten seconds after the last one."""

    _last = float("-inf")

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether a record is shown."""
        if not getattr(record, "about_progress", False):
            return True
        now = time.monotonic()
        if now - self._last < LINE_INTERVAL:
            return False
        self._last = now
        return True


class PercentLogger:
    """Log the percentage done now and then, with an estimate of the time left."""

    def __init__(self, log: logging.Logger) -> None:
        self._log = log
        self._began = self._last = time.monotonic()

    def on_progress(self, fraction: float) -> None:
        """Log that `fraction` (0 to 1) of the task is done, if it is time for a line."""
        now = time.monotonic()
        if now - self._last < PERCENT_INTERVAL or fraction >= 1:
            return
        self._last = now
        spent = now - self._began
        left = f", about {duration(spent / fraction - spent)} left" if fraction > 0.02 else ""
        self._log.info("%.0f%% done in %s%s", 100 * fraction, duration(spent), left, extra=PROGRESS)


def counted(number: int, one: str, several: str) -> str:
    """Put a count into the form for one or the form for several, such as '%s image', '%s images'.

    Commas stand between thousands.
    """
    return (one if number == 1 else several) % f"{number:,}"


def duration(seconds: float) -> str:
    """Format a time in its two largest units: '42 s', '3 min 5 s', '2 h 10 min'."""
    whole = max(round(seconds), 0)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
