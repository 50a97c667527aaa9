"""A folder of its own for every run: exp, exp2, exp3 and so on, as in YOLOv5 v7.0."""

from __future__ import annotations

from pathlib import Path


def run_folder(project: Path, name: str, *, exist_ok: bool = False) -> Path:
    """Make and return `project`/`name`, or that with the next free number from 2 on.

    With `exist_ok` a folder that is there is used again. Two programs that start at the same time
    get different folders.
    """
    project.mkdir(parents=True, exist_ok=True)
    number = 1
    while True:
        folder = project / (name if number == 1 else f"{name}{number}")
        try:
            folder.mkdir(parents=True, exist_ok=exist_ok)
        except FileExistsError:
            number += 1
            continue
        return folder
