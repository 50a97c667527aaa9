"""What a process needs from its surroundings when it runs as a user without a name or a home."""

from __future__ import annotations

import logging
import os
import sys
import tempfile
from collections.abc import Mapping, MutableMapping
from pathlib import Path

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


def log_to_console(*, quiet: bool = False) -> None:
    """Plain lines on standard output, each flushed: the tail must survive a SIGKILL.

    With `quiet` errors only, for a process whose neighbour tells the rest.
    """
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    logging.basicConfig(
        stream=sys.stdout,
        level=logging.ERROR if quiet else logging.INFO,
        format="%(asctime)s %(message)s",
        datefmt="%H:%M:%S",
        force=True,
    )
    for noisy in ("matplotlib", "PIL", "onnxscript", "onnx_ir", "torch.onnx", "tensorboard"):
        logging.getLogger(noisy).setLevel(logging.ERROR)
