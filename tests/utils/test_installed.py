from __future__ import annotations

import re
import subprocess
import sys

import pytest

from tests.conftest import ROOT
from utils.installed import NEEDED, complaint


def test_what_is_needed_is_required_and_here() -> None:
    text = (ROOT / "extra-requirements.txt").read_text(encoding="utf-8")
    assert set(NEEDED.values()) <= set(re.findall(r"^([\w-]+)>=", text, re.MULTILINE))
    assert complaint() == ""


def test_what_is_missing_is_named() -> None:
    said = complaint(["cv2", "no_such_module", "os"])
    assert "has no no_such_module: install" in said
    assert "-m pip install -r extra-requirements.txt" in said


@pytest.mark.parametrize(
    "program", [["start.py"], ["start.py", "--help"], ["-m", "utils.installed"]]
)
def test_a_python_without_packages_is_told_in_one_sentence(program: list[str]) -> None:
    # -S leaves out the folder of installed packages.
    done = subprocess.run(
        [sys.executable, "-S", *program], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"{sys.executable} has no torch, opencv-python-headless, numpy")
