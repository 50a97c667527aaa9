"""CPUs that a process may use: by affinity and by the quotas of its container."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from utils.cpus import available_cpus

V2 = "35 30 0:29 {root} /sys/fs/cgroup rw - cgroup2 cgroup rw"
V1 = "36 30 0:30 {root} /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct"
MEMORY = "37 30 0:31 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory"
OLD = "4:cpu,cpuacct:{path}\n3:memory:/other\n"


def old(folder: str, quota: int) -> dict[str, str]:
    """Return the files of a limit of cgroup v1, whose period is 0.1 s."""
    name = f"sys/fs/cgroup/cpu,cpuacct{folder}/cpu.cfs_"
    return {f"{name}quota_us": f"{quota}\n", f"{name}period_us": "100000\n"}


@pytest.mark.parametrize(
    ("mounts", "groups", "limits", "expected"),
    [
        pytest.param("", "", {}, 64, id="no cgroups"),
        pytest.param(V2, "0::/\n", {}, 64, id="no limit in the root"),
        pytest.param(V2, "0::/\n", {"cpu.max": "max 100000\n"}, 64, id="v2 without limit"),
        pytest.param(V2, "0::/\n", {"cpu.max": "200000 100000\n"}, 2, id="v2 in a container"),
        pytest.param(V2, "0::/\n", {"cpu.max": "150000 100000\n"}, 2, id="a part is a CPU"),
        pytest.param(V2, "0::/\n", {"cpu.max": "5000 100000\n"}, 1, id="at least one"),
        pytest.param(V2, "0::/\n", {"cpu.max": "9900000 100000\n"}, 64, id="more than there are"),
        pytest.param(
            V2,
            "0::/pod/task\n",
            {"pod/cpu.max": "300000 100000\n", "pod/task/cpu.max": "max 100000\n"},
            3,
            id="v2: the outer group limits",
        ),
        pytest.param(
            V2,
            "0::/pod/task\n",
            {"pod/cpu.max": "800000 100000\n", "pod/task/cpu.max": "100000 50000\n"},
            2,
            id="v2: the inner group limits",
        ),
        pytest.param(
            V2.replace("{root}", "/pod"),
            "0::/pod/task\n",
            {"task/cpu.max": "500000 100000\n"},
            5,
            id="v2: mounted from the pod on",
        ),
        pytest.param(
            V2, "0::/../other\n", {"cpu.max": "400000 100000\n"}, 4, id="v2: another namespace"
        ),
        pytest.param(V1, OLD.format(path="/"), old("", -1), 64, id="v1 without limit"),
        pytest.param(
            V1.replace("{root}", "/docker/5c"),
            OLD.format(path="/docker/5c"),
            old("", 250000),
            3,
            id="v1: the container under its name on the host",
        ),
        pytest.param(
            f"{MEMORY}\n{V1}",
            OLD.format(path="/pod/task"),
            old("/pod", 600000) | old("/pod/task", -1),
            6,
            id="v1: the outer group limits",
        ),
        pytest.param(
            f"{V1}\n{V2}".replace("/sys/fs/cgroup rw", "/sys/fs/cgroup/unified rw"),
            OLD.format(path="/") + "0::/\n",
            old("", 700000),
            7,
            id="both versions",
        ),
        pytest.param(MEMORY, OLD.format(path="/"), old("", 100000), 64, id="not mounted"),
    ],
)
def test_a_quota_counts_as_cpus(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    mounts: str,
    groups: str,
    limits: dict[str, str],
    expected: int,
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)), raising=False)
    limits = {
        name if "/cpu.cfs" in name else f"sys/fs/cgroup/{name}": limits[name] for name in limits
    }
    mounts = f"{mounts}\n30 1 0:5 / /proc rw - proc proc rw\n".replace("{root}", "/").lstrip()
    files = {"proc/self/mountinfo": mounts, "proc/self/cgroup": groups, **limits}
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    assert available_cpus(tmp_path) == expected


def test_affinity_counts_and_a_system_without_it(monkeypatch: pytest.MonkeyPatch) -> None:
    nowhere = Path("/missing")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3, 5, 9}, raising=False)
    assert available_cpus(nowhere) == 3
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert available_cpus(nowhere) == 1
