"""Descendants of a process: found over generations, stopped, and ended though they are deaf."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.conftest import ROOT
from utils.descendants import descendants, hold_descendants, kill

FAMILY = """
import os, signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
for _ in range(2):
    if os.fork() == 0:
        os.fork()
        break
os.write(1, b"x")
time.sleep(600)
"""
"""A process with two children and a grandchild from each, all deaf."""


def status(folder: Path, process: int, parent: int, name: str = "a") -> None:
    (folder / str(process)).mkdir()
    (folder / str(process) / "stat").write_text(f"{process} ({name}) S {parent} 1 1 0\n")


def test_generations_in_order(tmp_path: Path) -> None:
    for process, parent, name in ((5, 1, "a"), (9, 5, "b c"), (7, 5, ") R 1 ("), (3, 9, "d")):
        status(tmp_path, process, parent, name)
    (tmp_path / "8").mkdir()  # one that has just ended
    assert descendants(5, processes=tmp_path) == [7, 9, 3]
    assert descendants(3, processes=tmp_path) == []
    assert descendants(5, processes=tmp_path / "nowhere") == []


def test_all_are_held_and_ended() -> None:
    command = [sys.executable, "-c", FAMILY]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as head:
        assert head.stdout is not None
        assert head.stdout.read(5) == b"xxxxx"
        family = descendants(head.pid)
        assert len(family) == 4
        held = hold_descendants(head.pid)
        assert sorted(held) == sorted(family)
        kill([*held, head.pid])
        head.stdout.read()  # ends when the last of them is gone
    assert not any(one in descendants(os.getpid()) for one in family)
