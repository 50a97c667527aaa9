"""The hardest container that the platform may start, made of namespaces of this machine.

`python -m tests.bare_container TASK COMMAND...` runs a command where TASK/in is a read-only /in,
TASK/out and TASK/app are /out and /app, /dev/shm has 64 MB, there is no network interface, and the
user is a number without a name, rights and HOME. `ENTER` must start it: it takes a root folder, and
mounts, of its own.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.conftest import ROOT

ENTER = ("unshare", "--user", "--map-root-user", "--mount", "--net")
NOBODY = ("--map-user=54321", "--map-group=54321")
OWN = ("in", "out", "app")
PROBE = """
import os, pwd, shutil, socket
def may_write(folder):
    try:
        open(folder + "/written", "w").close()
        os.remove(folder + "/written")
        return True
    except OSError as error:
        return error.errno
try:
    name = pwd.getpwuid(os.getuid()).pw_name
except KeyError:
    name = None
interfaces = [name for _, name in socket.if_nameindex()]
shared = shutil.disk_usage("/dev/shm").total >> 20
writable = [may_write(folder) for folder in ("/in", "/out", "/app")]
print([os.getuid(), name, os.environ.get("HOME"), interfaces, shared, writable])
"""
"""Says what a program in there finds."""


def missing() -> str:
    """Why this machine cannot make such a container, or ''."""
    programs = ("unshare", "mount", "pivot_root", "umount")
    if sys.platform != "linux" or any(shutil.which(one) is None for one in programs):
        return f"needs Linux with the commands {', '.join(programs)}"
    command = [*ENTER, "unshare", "--user", *NOBODY, "true"]
    tried = subprocess.run(command, capture_output=True, text=True, check=False)
    if tried.returncode:
        return f"no namespaces of one's own here ({tried.stderr.strip()})"
    return ""


def run_bare(
    task: Path, command: Sequence[str], *, folder: Path = ROOT
) -> subprocess.CompletedProcess[str]:
    """Run a command in there, started in `folder`; skips the test where that is not allowed."""
    if reason := missing():
        pytest.skip(reason)
    for name in OWN:
        (task / name).mkdir(exist_ok=True)
    enter = [*ENTER, sys.executable, "-m", "tests.bare_container", str(task), str(folder)]
    return subprocess.run([*enter, *command], cwd=ROOT, capture_output=True, text=True, check=False)


def mount(*words: object) -> None:
    subprocess.run(["mount", *map(str, words)], check=True)


def new_root(task: Path, root: Path) -> None:
    """All that is in /, and the folders of the task."""
    mount("-t", "tmpfs", "none", root)
    for entry in Path("/").iterdir():
        place = root / entry.name
        if entry.is_symlink():
            place.symlink_to(entry.readlink())
        elif entry.is_dir() and entry.name not in OWN:
            place.mkdir()
            mount("--rbind", entry, place)
    for name in OWN:
        (root / name).mkdir()
        mount("--bind", task / name, root / name)
    mount("-o", "remount,bind,ro", root / "in")
    mount("-t", "tmpfs", "-o", "size=64m", "none", root / "dev" / "shm")


def main(task: str, folder: str, *command: str) -> None:
    """Make the container, and become the command."""
    root = Path(task) / "root"
    root.mkdir(exist_ok=True)
    new_root(Path(task), root)
    (root / "before").mkdir()
    subprocess.run(["pivot_root", str(root), str(root / "before")], check=True)
    os.chdir("/")
    subprocess.run(["umount", "--lazy", "/before"], check=True)
    Path("/before").rmdir()
    os.chdir(folder)
    keep = {name: os.environ[name] for name in ("PATH", "OMP_NUM_THREADS") if name in os.environ}
    os.execvpe("unshare", ["unshare", "--user", *NOBODY, *command], keep)


if __name__ == "__main__":
    main(*sys.argv[1:])
