"""A task directory as the checker reads it: what was asked, and where the answers should lie.

Deliberately written from the protocol alone, so that a mistake of the bridge cannot hide here.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import yaml
from PIL import Image, UnidentifiedImageError


@dataclass(frozen=True)
class Finding:
    """One thing that breaks the protocol: a short rule name and a plain sentence."""

    rule: str
    sentence: str


@dataclass(frozen=True)
class TaskFiles:
    """What env.yaml and config.yaml say, with paths that exist on this machine.

    `candidates` are the lines of the candidate index as written; `place` maps each to a file.
    """

    task_id: str
    protocol: tuple[int, ...] | None
    training: bool
    mining: bool
    infer: bool
    class_names: tuple[str, ...]
    candidates: tuple[str, ...]
    input_root: tuple[Path, Path]
    output: Mapping[str, Path] = field(default_factory=dict)

    def image(self, listed: str) -> Path | None:
        """The file behind a line of the candidate index; None when it is not below in/."""
        return _below(*self.input_root, listed)

    def legacy(self) -> bool:
        """Whether the platform knows no model stages: no version is stated, or one before 1.0.0."""
        return self.protocol is None or self.protocol < (1,)

    def staged(self) -> bool:
        """Whether model files lie in one folder per stage (protocol 1.1.0 and later)."""
        return self.protocol is not None and self.protocol >= (1, 1)


OUTPUT_NAMES = {
    "root_dir": "",
    "models_dir": "models",
    "tensorboard_dir": "tensorboard",
    "training_result_file": "models/result.yaml",
    "mining_result_file": "result.tsv",
    "infer_result_file": "infer-result.json",
    "monitor_file": "monitor.txt",
}


def read_task_files(task_dir: Path) -> TaskFiles:
    """Read TASKDIR/in/env.yaml (or TASKDIR/env.yaml) and the config file it names.

    Paths below the roots that env.yaml states (/in and /out in a container) are read below
    TASKDIR/in and TASKDIR/out, and no others are: a copy of a task is judged by its own files.
    Raises OSError or ValueError when the task cannot be read.
    """
    task_dir = Path(task_dir)
    places = (task_dir / "in" / "env.yaml", task_dir / "env.yaml")
    env_file = next((path for path in places if path.is_file()), None)
    if env_file is None:
        raise ValueError(f"{task_dir} holds no in/env.yaml, so nobody knows what was asked")
    env = _mapping(env_file)
    into, out = env.get("input") or {}, env.get("output") or {}
    declared_in = Path(str(into.get("root_dir") or "/in"))
    declared_out = Path(str(out.get("root_dir") or "/out"))
    roots_in, roots_out = (declared_in, task_dir / "in"), (declared_out, task_dir / "out")
    index = str(into.get("candidate_index_file") or "")

    def place(key: str, written: str, roots: tuple[Path, Path]) -> Path:
        path = _below(*roots, written)
        if path is None:
            raise ValueError(f"{env_file} has {key} outside of the folder of the task")
        return path

    config_name = str(into.get("config_file") or "config.yaml")
    config = _mapping(place("config_file", config_name, roots_in))
    candidates: tuple[str, ...] = ()
    if index:
        text = place("candidate_index_file", index, roots_in).read_text(encoding="utf-8")
        lines = (line.rstrip("\r").split("\t")[0] for line in text.split("\n"))
        candidates = tuple(line for line in lines if line.strip())
    version = str(env.get("protocol_version") or "")
    return TaskFiles(
        task_id=str(env.get("task_id", config.get("task_id", ""))),
        protocol=tuple(int(part) for part in version.split(".")) if version else None,
        training=env.get("run_training") is True,
        mining=env.get("run_mining") is True,
        infer=env.get("run_infer") is True,
        class_names=tuple(str(name) for name in config.get("class_names") or ()),
        candidates=candidates,
        input_root=roots_in,
        output={
            key: place(key, str(out.get(key) or name), roots_out)
            for key, name in OUTPUT_NAMES.items()
        },
    )


def image_size(path: Path) -> tuple[int, int] | None:
    """(width, height) of the stored pixel grid, None for a file that is no image."""
    try:
        with Image.open(path) as picture:
            return picture.size
    except (UnidentifiedImageError, OSError, ValueError, Image.DecompressionBombError):
        return None


def _mapping(path: Path) -> dict:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise ValueError(f"{path} is no readable YAML: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} is no mapping")
    return content


def _below(declared_root: Path, actual_root: Path, written: str) -> Path | None:
    """The file of this task that a written path (relative or absolute) means; None for others."""
    normal = os.path.normpath(declared_root / written)
    if not Path(normal).is_relative_to(declared_root):
        return None
    return actual_root / Path(normal).relative_to(declared_root)
