"""What stands at the head of a task's log: which code, on what, and the settings that differ."""

from __future__ import annotations

import platform
from dataclasses import fields
from pathlib import Path

import torch

from settings.detect import InferSettings, MiningSettings
from settings.train import TrainSettings
from tasks.version import VERSION, commit

REPOSITORY = Path(__file__).resolve().parent.parent


def header(task_id: str, device: str, *, repository: Path = REPOSITORY) -> str:
    """One line: task, version, commit, device, torch with its CUDA, Python."""
    revision = commit(repository)
    code = f"ymir-yolov5 {VERSION}" + (f" (commit {revision})" if revision else "")
    cuda = f" with CUDA {torch.version.cuda}" if torch.version.cuda else ""
    return (
        f"task {task_id} on {device}: {code}, torch {torch.__version__}{cuda}, "
        f"Python {platform.python_version()}"
    )


def changed_settings(settings: TrainSettings | InferSettings | MiningSettings) -> list[str]:
    """`name value` for every setting that differs from its default."""
    return [
        f"{item.name} {_plain(getattr(settings, item.name))}"
        for item in fields(settings)
        if getattr(settings, item.name) != item.default
    ]


def _plain(value: object) -> str:
    return " ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def settings_line(
    kind: str, settings: TrainSettings | InferSettings | MiningSettings | None
) -> list[str]:
    """One line that names what differs from the defaults; none for settings that are not there."""
    if settings is None:
        return []
    changed = changed_settings(settings)
    return [f"{kind} settings: " + (", ".join(changed) or "all as by default")]
