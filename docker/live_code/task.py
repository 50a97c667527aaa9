"""The starter's side of a task: where the code is, the progress file, and how a step fails."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

import yaml

CONFIG, NETWORK, CONTAINER = 300001, 300301, 160004
RUNNING, FAILED = 2, 4
NULL = ("~", "null", "Null", "NULL")


class StartError(Exception):
    """A step failed: the platform's return code, one sentence, and the exit status."""

    def __init__(self, code: int, sentence: str, status: int = 1) -> None:
        super().__init__(sentence)
        self.code, self.sentence, self.status = code, sentence, status


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
    """Return the places that `env_file` names. Raises StartError(CONFIG)."""
    env = _read_mapping(env_file)
    into, out = (
        part if isinstance(part, dict) else {} for part in (env.get("input"), env.get("output"))
    )
    base = Path(os.path.abspath(env_file)).parent
    return Places(
        task_id=_text(env, "task_id") or "default-task",
        config_file=base
        / (_text(into, "root_dir") or "/in")
        / (_text(into, "config_file") or "config.yaml"),
        monitor=base
        / (_text(out, "root_dir") or "/out")
        / (_text(out, "monitor_file") or "monitor.txt"),
    )


def read_code_task(config_file: Path) -> CodeTask:
    """Return the addresses in `config_file`, checked. Raises StartError(CONFIG) naming the key."""
    config = _read_mapping(config_file)
    for key in ("git_url", "git_branch"):
        value = _text(config, key)
        if not value or value.startswith("-") or "\n" in value:
            raise StartError(
                CONFIG,
                f"{key} in {config_file} must name the code to run, but it is "
                + ("missing or empty." if not value else "not an address or a name."),
            )
    return CodeTask(*(_text(config, key) for key in ("git_url", "git_branch", "pypi_mirror")))


def _read_mapping(path: Path) -> dict[str, object]:
    """Read YAML with every scalar as its text, so that a branch `1.0` or `0123` keeps its name."""
    try:
        content = yaml.load(path.read_text(encoding="utf-8-sig"), Loader=yaml.BaseLoader)
    except OSError as error:
        raise StartError(CONFIG, f"{path} cannot be read ({error.strerror}).") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise StartError(CONFIG, f"{path} cannot be read: {reason}.") from None
    if not isinstance(content, dict):
        raise StartError(CONFIG, f"{path} cannot be read: it is no mapping.")
    return content


def _text(content: dict[str, object], key: str) -> str:
    value = content.get(key, "")
    return value if isinstance(value, str) and value not in NULL else ""


def write_record(path: Path, task_id: str, *, state: int, code: int, sentence: str) -> None:
    """Replace `path` by a record of progress 0. Trouble is printed: it must not hide a failure."""
    message = " ".join(sentence.split())
    line = "\t".join([task_id, f"{time.time():.6f}", "0.000000", str(state), str(code), message])
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_text(f"{line}\n{message}\n", encoding="utf-8")
        temporary.replace(path)
    except OSError as error:
        print(f"progress could not be written to {path}: {error}", flush=True)


def says_failed(path: Path) -> bool:
    """Return whether the record at `path` is already that of a failure."""
    try:
        columns = path.read_text(encoding="utf-8", errors="replace").split("\n")[0].split("\t")
    except OSError:
        return False
    return len(columns) > 3 and columns[3].strip() == str(FAILED)
