"""The header of a task's log: version and commit, device, and settings that differ."""

from __future__ import annotations

import platform
from dataclasses import fields
from pathlib import Path

import torch

from settings.detect import InferSettings, MiningSettings
from settings.train import TrainSettings
from utils.environment import REPOSITORY, program


def header(task_id: str, device: str, *, repository: Path = REPOSITORY) -> str:
    """Return one line: task, version, commit, device, torch with its CUDA, Python."""
    code = program(repository)
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
