from __future__ import annotations

import subprocess
import sys

import pytest

from tests.conftest import ROOT

PROGRAM = """
import resource, torch
from utils.allocator import keep_freed_memory
kept = keep_freed_memory() if {keep} else True
def faults():
    for _ in range(5):
        torch.ones(12_000_000)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
first, second, third, fourth = faults(), faults(), faults(), faults()
print(kept, fourth - third)
"""


def run(*, keep: bool) -> tuple[bool, int]:
    """Whether it worked, and the page faults of five times 48 MB when it has been done before."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(keep=keep)],
        cwd=ROOT,
        text=True,
        capture_output=True,
        check=True,
    )
    kept, faults = done.stdout.split()
    return kept == "True", int(faults)


@pytest.mark.skipif(sys.platform != "linux", reason="glibc only")
def test_memory_is_not_fetched_anew() -> None:
    kept, faults = run(keep=True)
    if not kept:
        pytest.skip("this C library has no mallopt")
    assert faults < run(keep=False)[1] / 4
