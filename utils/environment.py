"""What a process needs from its surroundings when it runs as a user without a name or a home."""

from __future__ import annotations

import logging
import os
import sys
import tempfile
from collections.abc import Mapping, MutableMapping
from pathlib import Path

from utils.logs import Pace
from utils.redaction import redact

CACHES: Mapping[str, str] = {
    "MPLCONFIGDIR": "matplotlib",
    "TORCH_HOME": "torch",
    "XDG_CACHE_HOME": "cache",
    "TORCHINDUCTOR_CACHE_DIR": "inductor",
    "TRITON_CACHE_DIR": "triton",
}


def provide_home(environment: MutableMapping[str, str]) -> None:
    """Point HOME and the libraries' caches at a temporary folder where the current home cannot
    be written (containers run with a bare uid: no passwd entry, HOME unset or `/`).
    """
    home = environment.get("HOME", "")
    if home not in ("", "/") and os.access(home, os.W_OK):
        return
    scratch = Path(tempfile.mkdtemp(prefix="ymir-yolov5-"))
    environment["HOME"] = str(scratch)
    environment.setdefault("USER", "ymir")  # getpass.getuser() fails without a passwd entry
    for name, folder in CACHES.items():
        environment.setdefault(name, str(scratch / folder))


class _Discreet(logging.Formatter):
    """A line without secrets, and without a carriage return that would overwrite it."""

    def format(self, record: logging.LogRecord) -> str:
        return redact(super().format(record)).replace("\r", " ")


def log_to_console(*, quiet: bool = False) -> None:
    """Plain lines on standard output, each flushed: the tail must survive a SIGKILL.

    Secrets are hidden, and lines about progress come at most every ten seconds unless somebody
    watches at a terminal. With `quiet` errors only, for a process whose neighbour tells the rest.
    """
    # File names need not be UTF-8, and a word about one must not end a task.
    sys.stdout.reconfigure(line_buffering=True, errors="backslashreplace")  # type: ignore[union-attr]
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(_Discreet("%(asctime)s %(message)s", "%H:%M:%S"))
    handler.addFilter(Pace(patient=sys.stdout.isatty()))
    level = logging.ERROR if quiet else logging.INFO
    logging.basicConfig(handlers=[handler], level=level, force=True)
    for noisy in ("matplotlib", "PIL", "onnxscript", "onnx_ir", "torch.onnx", "tensorboard"):
        logging.getLogger(noisy).setLevel(logging.ERROR)


def forbid_update_checks() -> None:
    """Keep packages from asking the network for newer versions of themselves."""
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
