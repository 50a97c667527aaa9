"""A folder of its own for every run: exp, exp2, exp3 and so on, as in YOLOv5 v7.0."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class RunName:
    """A run folder before it is made, so that a run that cannot start leaves none."""

    project: Path
    name: str = "exp"
    exist_ok: bool = False

    @classmethod
    def of(cls, folder: Path) -> RunName:
        """A folder of one's own choice, which may be there already."""
        return cls(folder.parent, folder.name, exist_ok=True)

    def make(self) -> Path:
        """Make the folder; see `run_folder`."""
        return run_folder(self.project, self.name, exist_ok=self.exist_ok)


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


def newest_run(project: Path, file: Path) -> Path | None:
    """The run folder below `project` whose `file` was written last; None when there is none."""
    found = [run for run in project.glob("*") if (run / file).is_file()]
    return max(found, key=lambda run: (run / file).stat().st_mtime, default=None)
