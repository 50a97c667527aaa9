"""What the help of a program costs: CPU time and slow imports."""

from __future__ import annotations

import subprocess
import sys

from tests.conftest import ROOT

LISTED = """
import resource, runpy, sys
used = lambda: sum(resource.getrusage(resource.RUSAGE_SELF)[:2])
began, sys.argv = used(), sys.argv[1:]
run = runpy.run_path if sys.argv[0].endswith(".py") else runpy.run_module
try:
    run(sys.argv[0], run_name="__main__")
finally:
    print(used() - began, *{"torch", "cv2", "pandas"} & sys.modules.keys())
"""


def help_at_once(program: str) -> str:
    """Return the first line of the help of a file or module; fail where it had to wait."""
    words = [sys.executable, "-c", LISTED, program, "--help"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True)
    *text, last = done.stdout.splitlines()
    seconds, *slow = last.split()
    assert not slow
    assert float(seconds) < 0.5
    return text[0]
