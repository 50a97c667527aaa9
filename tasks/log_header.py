"""The header of a task's log: version and commit, device, and settings that differ."""

from __future__ import annotations

import platform
import re
from dataclasses import fields
from pathlib import Path

import torch

from settings.detect import InferSettings, MiningSettings
from settings.train import TrainSettings

VERSION = "0.2.0"
SHOWN = 12
"""Digits of a commit in the log."""
REPOSITORY = Path(__file__).resolve().parent.parent


def header(task_id: str, device: str, *, repository: Path = REPOSITORY) -> str:
    """Return one line: task, version, commit, device, torch with its CUDA, Python."""
    revision = commit(repository)
    code = f"ymir-yolov5 {VERSION}" + (f" (commit {revision})" if revision else "")
    cuda = f" with CUDA {torch.version.cuda}" if torch.version.cuda else ""
    return (
        f"task {task_id} on {device}: {code}, torch {torch.__version__}{cuda}, "
        f"Python {platform.python_version()}"
    )


def settings_line(
    kind: str, settings: TrainSettings | InferSettings | MiningSettings | None
) -> list[str]:
    """Return a line that names what differs from the defaults; none without settings."""
    if settings is None:
        return []
    changed = []
    for item in fields(settings):
        value = getattr(settings, item.name)
        if value != item.default:
            text = " ".join(map(str, value)) if isinstance(value, tuple) else str(value)
            changed.append(f"{item.name} {text}")
    return [f"{kind} settings: " + (", ".join(changed) or "all as by default")]


def commit(repository: Path) -> str:
    """Return the commit that is checked out, shortened; '' if the folder is no clone.

    Read from the files below `.git`, without the program git: a branch has a file of its own or a
    line in `packed-refs`, a checked-out tag or commit is in HEAD itself, and in a work tree `.git`
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
