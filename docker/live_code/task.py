"""What the starter reads of a task: where the code is, and where progress is written."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from .failure import CONFIG, StartError
from .plain_yaml import read_values

ENV = ("task_id", "input.root_dir", "input.config_file", "output.root_dir", "output.monitor_file")
CONFIGURED = ("git_url", "git_branch", "pypi_mirror")


@dataclass(frozen=True)
class CodeTask:
    """The addresses in a task's config.yaml, '' where there is none."""

    git_url: str
    git_branch: str
    pypi_mirror: str


@dataclass(frozen=True)
class Places:
    """What env.yaml names, as far as the starter needs it."""

    task_id: str
    config_file: Path
    monitor: Path


def read_places(env_file: Path) -> Places:
    """The places that `env_file` names. Raises StartError(CONFIG)."""
    values = _values(env_file, ENV)
    base = Path(os.path.abspath(env_file)).parent
    root_in = base / (values["input.root_dir"] or "/in")
    root_out = base / (values["output.root_dir"] or "/out")
    return Places(
        task_id=values["task_id"] or "default-task",
        config_file=root_in / (values["input.config_file"] or "config.yaml"),
        monitor=root_out / (values["output.monitor_file"] or "monitor.txt"),
    )


def read_code_task(config_file: Path) -> CodeTask:
    """The addresses in `config_file`, checked. Raises StartError(CONFIG) naming the key."""
    values = _values(config_file, CONFIGURED)
    for key in ("git_url", "git_branch"):
        value = values[key]
        if not value or value.startswith("-") or "\n" in value:
            raise StartError(
                CONFIG,
                f"{key} in {config_file} must name the code to run, but it is "
                + ("missing or empty." if not value else "not an address or a name."),
            )
    return CodeTask(**values)


def _values(path: Path, keys: tuple[str, ...]) -> dict[str, str]:
    try:
        return read_values(path.read_text(encoding="utf-8"), {key: key for key in keys})
    except OSError as error:
        raise StartError(CONFIG, f"{path} cannot be read ({error.strerror}).") from None
    except ValueError as error:
        raise StartError(CONFIG, f"{path} cannot be read: {error}.") from None
