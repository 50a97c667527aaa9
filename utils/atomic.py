"""Files that are either the old one or the new one, whenever the process is killed."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replace_file(path: Path) -> Iterator[Path]:
    """Give a temporary path beside `path`; what was written there replaces `path` on success.

    The temporary file is flushed to disk before the rename, so that a power cut or a SIGKILL
    leaves either the old content or the whole new one. On an exception it is removed.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    _remove_leftovers(path)
    try:
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _remove_leftovers(path: Path) -> None:
    """Remove what a process that was killed while writing `path` has left beside it."""
    ours = re.compile(rf"\.{re.escape(path.name)}\.(\d+)\.tmp")
    for name in os.listdir(path.parent):
        found = ours.fullmatch(name)
        if found and not _alive(int(found[1])):
            (path.parent / name).unlink(missing_ok=True)


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True
    return True


def write_text(path: Path, text: str) -> None:
    """Replace the content of `path` by `text` (UTF-8) in one step."""
    with replace_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
