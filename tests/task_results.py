"""What a task has left, in short forms for assertions."""

from __future__ import annotations

from pathlib import Path

import yaml

from tools.check_out import check_out


def record(task: Path) -> list[str]:
    """Return the columns of monitor.txt."""
    return (task / "out" / "monitor.txt").read_text("utf-8").split("\n")[0].split("\t")


def findings(task: Path, *, failed: bool = False) -> list[str]:
    """Return rule and sentence of everything that breaks the protocol."""
    return [f"{one.rule}: {one.sentence}" for one in check_out(task, failed=failed)]


def edit(path: Path, **change: object) -> None:
    """Change keys of a YAML file."""
    content = yaml.safe_load(path.read_text("utf-8")) | change
    path.write_text(yaml.safe_dump(content, allow_unicode=True), "utf-8")
