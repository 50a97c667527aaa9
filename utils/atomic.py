"""Atomic writes: a file has its old content or the new one, whenever the process is killed."""

from __future__ import annotations

import errno
import os
import re
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

FULL = 1 << 16
"""Bytes: a disk with less free space is full, as larger pieces are written."""


@contextmanager
def replace_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; what was written there replaces `path` on success.

    It is flushed to disk before the rename: a power cut or a SIGKILL leaves the old content or the
    whole new one. On an exception it is removed, and one that a full disk caused is an OSError that
    names `path`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(_temporary_name(path.name))
    _remove_leftovers(path)
    try:
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            error.filename = str(path)
        raise
    except RuntimeError as error:  # torch's writer does not say why it could not
        if shutil.disk_usage(path.parent).free < FULL:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path)) from error
        raise
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def replace_text(
    path: Path, *, errors: str = "strict", newline: str | None = None
) -> Iterator[TextIO]:
    """Yield a text file (UTF-8) to stream to; it replaces `path` on success, as `replace_file`."""
    with (
        replace_file(path) as temporary,
        open(temporary, "w", encoding="utf-8", errors=errors, newline=newline) as file,
    ):
        yield file


@contextmanager
def scratch_beside(path: Path) -> Iterator[Path]:
    """Yield an empty folder on the disk of `path`, removed with the block.

    One that a killed process has left there is removed as well.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    parts = path.with_name(f"{path.name}.parts")
    _remove_leftovers(parts)
    folder = path.with_name(_temporary_name(parts.name))
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _temporary_name(name: str) -> str:
    """Return a name that is this thread's and this process's own."""
    return f".{name}.{os.getpid()}.{threading.get_native_id()}.tmp"


def _remove_leftovers(path: Path) -> None:
    """Remove the temporary files beside `path` of processes that are gone."""
    ours = re.compile(rf"\.{re.escape(path.name)}\.(\d+)(\.\d+)?\.tmp")
    for name in os.listdir(path.parent):
        found = ours.fullmatch(name)
        if not found or _alive(int(found[1])):
            continue
        leftover = path.parent / name
        if leftover.is_dir():
            shutil.rmtree(leftover, ignore_errors=True)
        else:
            leftover.unlink(missing_ok=True)


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        pass
    return True


def write_text(path: Path, text: str) -> None:
    """Replace the content of `path` by `text` (UTF-8) in one step."""
    with replace_text(path) as file:
        file.write(text)
