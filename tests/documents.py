"""Pages of the documents, their fenced examples, and the commands in these."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parent.parent
PLACES = ("*.md", "docs/*.md", "docker/*.md", "template/*.md", "examples/*.md", "docs/zh/*.md")
PAGES = [page for place in PLACES for page in sorted(ROOT.glob(place))]
BLOCK = re.compile(r"^```(\w*) ?(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


class Block(NamedTuple):
    """A fenced example of a page."""

    language: str
    kind: str
    text: str


class Command(NamedTuple):
    """A command of a page: its words, without comment and environment."""

    page: str
    words: tuple[str, ...]

    def __str__(self) -> str:
        return " ".join(self.words)


def blocks(page: Path) -> list[Block]:
    return [Block(*parts) for parts in BLOCK.findall(page.read_text(encoding="utf-8"))]


def where(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def read_commands(text: str, page: str) -> list[Command]:
    """Return the commands of a shell's text, without comments and variables before them."""
    found = []
    for line in text.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        while words and re.match(r"[A-Z_]+=", words[0]):
            words = words[1:]
        if words:
            found.append(Command(page, tuple(words)))
    return found


def commands_of(page: Path) -> list[Command]:
    texts = [block.text for block in blocks(page) if block.language == "bash"]
    return [command for text in texts for command in read_commands(text, where(page))]


def program_of(words: Sequence[str]) -> tuple[str, list[str]]:
    """Return module or file and the arguments of a call of Python."""
    assert words[0] in ("python", "python3"), words
    return (words[2], list(words[3:])) if words[1] == "-m" else (words[1], list(words[2:]))


def made_by(words: Sequence[str]) -> list[Command]:
    """Return the commands that make runs for a target."""
    if shutil.which("make") is None:
        pytest.skip("there is no make")
    given = ["make", "--dry-run", "--no-print-directory", "PYTHON=python", *words[1:]]
    # Flags of a make that runs the tests are not those of the reader's.
    variables = {key: value for key, value in os.environ.items() if "MAKE" not in key}
    ended = subprocess.run(
        given, cwd=ROOT, capture_output=True, text=True, check=True, env=variables
    )
    text = ended.stdout.replace("$(mktemp)", "").replace("@", "")
    return read_commands(text, "Makefile")
