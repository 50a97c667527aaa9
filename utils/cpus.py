"""How many CPUs this process may use: of those it may run on, what its container has time on."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath


def available_cpus(root: Path = Path("/")) -> int:
    """Return the number of CPUs by affinity and by the quotas of cgroups v1 and v2, at least 1.

    A quota of one and a half CPUs counts as two. `root` is for tests.
    """
    cpus = os.cpu_count() or 1
    if hasattr(os, "sched_getaffinity"):
        cpus = len(os.sched_getaffinity(0))
    return max(min([cpus, *map(math.ceil, _quotas(root))]), 1)


def _quotas(root: Path) -> Iterator[float]:
    """Yield the CPUs that each cgroup of this process is limited to, the outer ones included."""
    groups = {}
    for line in _lines(root / "proc/self/cgroup"):
        _, controllers, path = line.split(":", 2)
        groups.update(dict.fromkeys(controllers.split(","), path))
    for line in _lines(root / "proc/self/mountinfo"):
        # proc(5): ... root, mount point, options, - type, source, options of the file system.
        place, _, kind = (part.split() for part in line.partition(" - "))
        unified = kind[0] == "cgroup2"
        controller = "" if unified else "cpu"
        if controller not in groups or not (unified or "cpu" in kind[2].split(",")):
            continue
        top = root / place[4].lstrip("/")
        folder = top
        # A container sees its own cgroup mounted, under the name that it has on the host or not.
        if PurePosixPath(groups[controller]).is_relative_to(place[3]):
            folder = top / PurePosixPath(groups[controller]).relative_to(place[3])
        for group in (folder, *folder.parents):
            yield from _quota(group, unified=unified)
            if group == top:
                break


def _quota(group: Path, *, unified: bool) -> Iterator[float]:
    """Yield the CPUs of one cgroup if it has a limit."""
    files = ["cpu.max"] if unified else ["cpu.cfs_quota_us", "cpu.cfs_period_us"]
    words = [word for name in files for line in _lines(group / name) for word in line.split()]
    if len(words) == 2 and all(word.isdigit() for word in words) and int(words[1]):
        yield int(words[0]) / int(words[1])


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
