"""A small disk of one's own that can be filled to the last byte, where mounts are allowed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

ENTER = ("unshare", "--user", "--map-root-user", "--mount")
BALLAST = "ballast"


def may_mount() -> bool:
    """Whether this machine lets a process have mounts of its own."""
    if shutil.which(ENTER[0]) is None or shutil.which("mount") is None:
        return False
    return subprocess.run([*ENTER, "true"], capture_output=True, check=False).returncode == 0


def run_within(arguments: Sequence[str]) -> int:
    """Run `python -m` with these words where disks can be mounted that nobody else sees."""
    return subprocess.run([*ENTER, sys.executable, "-m", *arguments], check=False).returncode


@contextmanager
def on_small_disk(folder: Path, *, mebibytes: int) -> Iterator[None]:
    """Within, `folder` and all that it holds lie on a disk (tmpfs) of their own."""
    kept = folder.with_name(f"{folder.name}.before")
    folder.rename(kept)
    folder.mkdir()
    size = f"size={mebibytes}m"
    subprocess.run(["mount", "-t", "tmpfs", "-o", size, "none", str(folder)], check=True)
    try:
        shutil.copytree(kept, folder, dirs_exist_ok=True)
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)
        folder.rmdir()
        kept.rename(folder)


def fill(folder: Path, *, leave: int = 0) -> None:
    """Take all that is free on the disk of `folder`, except for `leave` bytes."""
    place = os.statvfs(folder)
    with (folder / BALLAST).open("ab") as file:
        free = place.f_bavail * place.f_frsize - leave
        if free > 0:
            os.posix_fallocate(file.fileno(), file.tell(), free)


def make_room(folder: Path) -> None:
    """Give back what `fill` has taken."""
    (folder / BALLAST).unlink(missing_ok=True)
