"""Numbers that processes of one machine share out among themselves: each goes to one only."""

from __future__ import annotations

import os
from pathlib import Path

from utils.environment import error_folder


class ShardLocks:
    """Whoever makes a number's file in `folder` first has the number, until the folder goes."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    @classmethod
    def from_environment(cls) -> ShardLocks:
        """Those of the processes that torch's launcher started together with this one."""
        folder = error_folder()
        assert folder is not None, "only a process that was launched has others to share with"
        return cls(folder / "claims")

    def take(self, number: int) -> bool:
        """Whether the number is this process's; every other that asks is told no."""
        try:
            os.close(os.open(self._folder / str(number), os.O_CREAT | os.O_EXCL | os.O_WRONLY))
        except FileExistsError:
            return False
        return True
