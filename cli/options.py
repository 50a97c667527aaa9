"""Options that the command lines share: settings without a v7.0 flag, and run folders."""

from __future__ import annotations

import argparse
from collections.abc import Collection, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from settings.parse import Settings


def add_setting_options(
    parser: argparse.ArgumentParser, kind: type[Settings], taken: Collection[str]
) -> None:
    """Add `--name VALUE` for every setting of a kind but those `taken`, without a default."""
    group = parser.add_argument_group("further settings")
    for item in fields(kind):
        if item.name not in taken:
            # A setting that is true or false may stand alone, as a flag does.
            alone: dict[str, Any] = (
                {"nargs": "?", "const": True} if isinstance(item.default, bool) else {}
            )
            group.add_argument(
                "--" + item.name.replace("_", "-"),
                dest=item.name,
                default=argparse.SUPPRESS,
                metavar="VALUE",
                help=item.metadata["spec"].help,
                **alone,
            )


def given_settings(
    kind: type[Settings], given: Mapping[str, object], taken: Collection[str]
) -> dict[str, object]:
    """Return the values of those options in a parsed command line."""
    names = {item.name for item in fields(kind)} - set(taken)
    return {name: value for name, value in given.items() if name in names}


@dataclass(frozen=True)
class RunName:
    """A run folder (exp, exp2, ... as in v7.0), not made before the run can start."""

    project: Path
    name: str = "exp"
    exist_ok: bool = False

    @classmethod
    def of(cls, folder: Path) -> RunName:
        """Return the name of a given folder, which may exist already."""
        return cls(folder.parent, folder.name, exist_ok=True)

    def make(self) -> Path:
        """Make the folder; see `run_folder`."""
        return run_folder(self.project, self.name, exist_ok=self.exist_ok)


def run_folder(project: Path, name: str, *, exist_ok: bool = False) -> Path:
    """Make and return `project`/`name`, or that with the next free number from 2 on.

    With `exist_ok` an existing folder is used. Two programs that start at the same time get
    different folders.
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
    """Return the run folder below `project` whose `file` was written last, or None."""
    found = [run for run in project.glob("*") if (run / file).is_file()]
    return max(found, key=lambda run: (run / file).stat().st_mtime, default=None)
