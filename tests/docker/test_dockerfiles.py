"""What can be read from the Dockerfiles without building: instructions, files, entry points."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.linters import complaints

FILES = sorted((ROOT / "docker").glob("Dockerfile.*"))
KNOWN = {"ARG", "FROM", "RUN", "COPY", "ENV", "WORKDIR", "CMD"}


def instructions(path: Path) -> list[tuple[str, str]]:
    text = re.sub(r"^#.*\n", "", path.read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    return [tuple(line.split(None, 1)) for line in text.splitlines() if line.strip()]  # type: ignore[misc]


def test_there_are_three() -> None:
    assert [path.suffix for path in FILES] == [".baked", ".cpu", ".live-code"]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_instructions(path: Path) -> None:
    found = instructions(path)
    names = [name for name, _ in found]
    assert set(names) <= KNOWN
    assert "RUN" in names
    assert names.count("FROM") == 1
    assert set(names[: names.index("FROM")]) == {"ARG"}
    assert found[-1] == ("CMD", '["/usr/bin/start.sh"]')
    for name, rest in found:
        if name == "COPY":
            source, target = rest.split()
            assert (ROOT / source).exists()
            assert target.startswith("/")
        if name == "RUN":
            done = subprocess.run(["sh", "-n", "-c", rest], capture_output=True, check=False)
            assert (done.returncode, done.stderr) == (0, b""), rest
        if name == "RUN" and "apt-get" in rest:
            assert "rm -rf /var/lib/apt/lists/*" in rest
        if name == "RUN" and "pip install" in rest:
            assert rest.count("pip install") == rest.count("--no-cache-dir")


@pytest.mark.parametrize("name", ["start.sh", "start-baked.sh"])
def test_entry_points(name: str) -> None:
    path = ROOT / "docker" / name
    assert os.access(path, os.X_OK)
    subprocess.run(["sh", "-n", str(path)], check=True)
    assert path.read_text().splitlines()[-1].startswith("exec python3 -m live_code")


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_nothing_for_a_linter_to_say(path: Path) -> None:
    assert complaints("hadolint", "--no-color", path) == ""


def test_the_linter_would_say_something() -> None:
    assert "DL3003" in complaints("hadolint", "-", text="FROM a:1\nRUN cd /b && ls\n")
