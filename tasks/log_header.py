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


def settings_line(kind: str, settings: TrainSettings | InferSettings | MiningSettings) -> str:
    """Return a line that names what differs from the defaults."""
    changed = []
    for item in fields(settings):
        value = getattr(settings, item.name)
        if value != item.default:
            text = " ".join(map(str, value)) if isinstance(value, tuple) else str(value)
            changed.append(f"{item.name} {text}")
    return f"{kind} settings: " + (", ".join(changed) or "all as by default")


def commit(repository: Path) -> str:
    """Return the commit that is checked out, shortened; '' if the folder is no clone.

    Read from the files below `.git`, without the program git: a branch has a file of its own or a
    line in `packed-refs`, a checked-out tag or commit is in HEAD itself.
    """
    folder = repository / ".git"
    try:
        found = (folder / "HEAD").read_text("utf-8").strip()
        if found.startswith("ref:"):
            branch = found.removeprefix("ref:").strip()
            if (folder / branch).is_file():
                found = (folder / branch).read_text("utf-8").strip()
            else:
                refs = (folder / "packed-refs").read_text("utf-8").splitlines()
                found = next((line for line in refs if line.endswith(f" {branch}")), "")
    except (OSError, UnicodeDecodeError):
        return ""
    digits = re.match(r"[0-9a-f]{40,64}\b", found)
    return digits[0][:SHOWN] if digits else ""
