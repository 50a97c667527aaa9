"""Atomic writes: a file has its old content or the new one, whenever the process is killed."""

from __future__ import annotations

import errno
import os
import re
import shutil
import sys
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO
from zlib import crc32

NAME_BYTES = 255
"""Longest file name of usual file systems; some take less."""
FULL = 1 << 16
"""Bytes: a disk with less free space is full, as larger pieces are written."""


@contextmanager
def replace_file(path: Path, *, shared: bool = False) -> Iterator[Path]:
    """Yield a temporary path beside `path`; what was written there replaces `path` on success.

    It is flushed to disk before the rename: a power cut or a SIGKILL leaves the old content or the
    whole new one. On an exception it is removed, and an OSError about it names `path`. `shared` is
    for a file that processes of other machines may write too, whose numbers mean nothing here: what
    one that is killed leaves stays there.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if shared:
        temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    else:
        temporary = _temporary(path)
        _remove_leftovers(path)
    try:
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT) or str(error.filename) == str(temporary):
            error.filename = str(path)
        raise
    except RuntimeError as error:  # torch's writer does not say why it could not
        if shutil.disk_usage(path.parent).free < FULL:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path)) from error
        raise
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def replace_text(path: Path, *, newline: str | None = None) -> Iterator[TextIO]:
    """Yield a text file (UTF-8) to stream to; it replaces `path` on success, as `replace_file`.

    File names in other encodings are written by their bytes.
    """
    with (
        replace_file(path) as temporary,
        open(temporary, "w", encoding="utf-8", errors="surrogateescape", newline=newline) as file,
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
    folder = _temporary(parts)
    shutil.rmtree(folder, ignore_errors=True)
    try:
        folder.mkdir()
    except OSError as error:
        error.filename = str(path)
        raise
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def fitting_name(folder: Path, stem: str, suffix: str = "", *, spare: int = 0) -> str:
    """Return `stem` + `suffix`, cut where a file system takes no longer name, less `spare` bytes.

    A cut name has a checksum of the whole stem, so that no two become one. `folder` is where the
    file is to be, or is to be made.
    """
    while not folder.is_dir() and folder != folder.parent:
        folder = folder.parent
    try:
        most = os.pathconf(folder, "PC_NAME_MAX") - spare
    except (OSError, ValueError):
        most = NAME_BYTES - spare
    content = os.fsencode(stem)
    if len(content + os.fsencode(suffix)) > most:
        suffix = f"-{crc32(content):08x}{suffix}"
        while stem and len(os.fsencode(stem + suffix)) > most:
            stem = stem[:-1]
    return stem + suffix


def _temporary(path: Path) -> Path:
    """Return a path beside `path` that is this thread's and this process's own."""
    return path.with_name(f"{_begin(path)}.{os.getpid()}.{threading.get_native_id()}.tmp")


def _begin(path: Path) -> str:
    return fitting_name(path.parent, f".{path.name}", spare=32)


def _remove_leftovers(path: Path) -> None:
    """Remove the temporary files beside `path` of processes that are gone."""
    ours = re.compile(rf"{re.escape(_begin(path))}\.(\d+)(\.\d+)?\.tmp")
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
    if sys.platform == "win32":  # where the call below would interrupt the process
        return True
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
