"""Download of an official weight file, only if a task asks for it: the one use of the network."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.client import HTTPException
from pathlib import Path
from urllib.error import URLError

import torch

from utils.atomic import replace_file
from utils.errors import Code, TaskError
from utils.official_weights import RELEASE

log = logging.getLogger(__name__)

TIMEOUT = 60.0
"""Seconds without a byte after which a download has failed."""


def download_weights(name: str, sha256: str, folders: Sequence[Path]) -> Path:
    """Download a file of the release into the first writable folder and return its path.

    The file appears there complete and with the SHA-256 given (64 lower-case hexadecimal digits),
    or not at all. Raise TaskError: NETWORK when it cannot be fetched, MODEL when it is
    not the file that was meant, CONFIG when no folder can be written to.
    """
    url = RELEASE + name
    target = _writable(folders) / name
    log.info("fetching %s to %s", url, target)
    try:
        with replace_file(target) as temporary, _socket_timeout(TIMEOUT):
            torch.hub.download_url_to_file(url, str(temporary), hash_prefix=sha256, progress=False)
    except RuntimeError as error:
        # torch raises RuntimeError for a wrong hash only.
        raise TaskError(
            Code.MODEL,
            f"the file that {url} gave has another SHA-256 than {sha256}, so it was not kept: "
            "check weights_sha256, or put the file into weights_dir yourself.",
        ) from error
    except (URLError, HTTPException, TimeoutError, ConnectionError) as error:
        reason = " ".join(str(getattr(error, "reason", "") or error).split())[:200]
        raise TaskError(
            Code.NETWORK,
            f"the weights could not be fetched from {url} ({reason}): check the network, or put "
            "the file into weights_dir yourself.",
        ) from error
    return target


def _writable(folders: Sequence[Path]) -> Path:
    for folder in folders:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError:
            continue
        if os.access(folder, os.W_OK):
            return folder
    raise TaskError(
        Code.CONFIG,
        f"none of {', '.join(map(str, folders))} can be written to: set weights_dir to a folder "
        "that can.",
    )


@contextmanager
def _socket_timeout(seconds: float) -> Iterator[None]:
    """Set a default socket timeout: torch's download would wait for ever for a silent server."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)
