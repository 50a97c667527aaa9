"""What is seen from outside of a process, of its children, and of one that is gone."""

from __future__ import annotations

import subprocess
import sys

import pytest

from bench.process_memory import MemoryWatch, proportional_mib, tree

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")

HOLD = "import sys; block = bytearray(b'1') * (64 << 20); print(len(block), flush=True); input()"
CHILD = (
    "import subprocess, sys; child = subprocess.Popen([sys.executable, '-c', sys.argv[1]]); "
    "sys.exit(child.wait())"
)


@pytest.mark.parametrize("command", [["-c", HOLD], ["-c", CHILD, HOLD]], ids=["itself", "child"])
def test_memory_of_a_process_and_its_child_is_seen(command: list[str]) -> None:
    with subprocess.Popen(
        [sys.executable, *command], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        process.stdout.readline()
        with MemoryWatch(process.pid, interval=0.01) as watch:
            pass
        process.stdin.write(b"\n")
        process.stdin.close()
    assert process.returncode == 0
    assert 64 < watch.peak < 200


def test_a_process_that_is_gone_holds_nothing() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        pass
    assert list(tree(process.pid)) == [process.pid]
    assert proportional_mib(process.pid) == 0
