"""Programs that check files which are no Python, as packages of requirements-dev.txt bring them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest


def complaints(name: str, *words: object, text: str | None = None) -> str:
    """What a program finds wrong, '' for nothing; skips the test where the program is missing."""
    places = (str(Path(sys.executable).parent), os.environ.get("PATH", ""))
    program = shutil.which(name, path=os.pathsep.join(places))
    if program is None:
        pytest.skip(f"{name} is not installed (requirements-dev.txt)")
    command: Sequence[str] = [program, *map(str, words)]
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    found = done.stdout + done.stderr
    return found or f"status {done.returncode}" if done.returncode else ""
