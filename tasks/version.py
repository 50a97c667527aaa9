"""Which code this is: the version, and the commit as the clone's own files tell it."""

from __future__ import annotations

import re
from pathlib import Path

VERSION = "0.2.0"
SHOWN = 12
"""Digits of a commit that are shown."""


def commit(repository: Path) -> str:
    """The commit that is checked out, shortened; '' where the folder is no clone.

    Read from the files below `.git`, without the program git: a branch has its own file or a line
    in `packed-refs`, a checked-out tag or commit stands in HEAD itself, and in a work tree `.git`
    is a file that names the folder.
    """
    try:
        folder = _git_folder(repository / ".git")
        head = _first_line(folder / "HEAD")
        name = head.removeprefix("ref:").strip()
        found = _of_branch(folder, name) if head.startswith("ref:") else head
    except (OSError, UnicodeDecodeError):
        return ""
    return found[:SHOWN] if re.fullmatch(r"[0-9a-f]{40,64}", found) else ""


def _git_folder(path: Path) -> Path:
    if path.is_dir():
        return path
    return path.parent / _first_line(path).removeprefix("gitdir:").strip()


def _of_branch(folder: Path, name: str) -> str:
    shared = folder / "commondir"
    places = [folder, folder / _first_line(shared)] if shared.is_file() else [folder]
    for place in places:
        if (place / name).is_file():
            return _first_line(place / name)
    for place in places:
        packed = place / "packed-refs"
        lines = packed.read_text("utf-8").splitlines() if packed.is_file() else []
        for line in lines:
            digits, _, ref = line.partition(" ")
            if ref == name:
                return digits
    return ""


def _first_line(path: Path) -> str:
    return path.read_text("utf-8").partition("\n")[0].strip()
