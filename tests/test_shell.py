"""Shell scripts and the shell commands of documents pass shellcheck."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.documents import PAGES, ROOT, blocks, where
from tests.linters import complaints

SHELLS = ("#!/bin/sh", "#!/bin/bash", "#!/usr/bin/env bash")
SCRIPTS = [
    path
    for pattern in (".ci/*", "*.sh", "docker/**/*.sh", "examples/*.sh", "template/**/*.sh")
    for path in sorted(ROOT.glob(pattern))
]


def test_every_script_is_checked() -> None:
    command = ["git", "grep", "--files-with-matches", "--perl-regexp", r"\A#!.*\b(ba|da)?sh$"]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    listed = found.stdout.splitlines()
    firsts = {name: (ROOT / name).read_text("utf-8").split("\n", 1)[0] for name in listed}
    assert {name for name, first in firsts.items() if first in SHELLS} <= set(map(where, SCRIPTS))
    assert len(SCRIPTS) > 3


@pytest.mark.parametrize("path", SCRIPTS, ids=where)
def test_a_script_passes_shellcheck(path: Path) -> None:
    assert complaints("shellcheck", path) == ""


@pytest.mark.parametrize("page", PAGES, ids=where)
def test_commands_of_a_page_pass_shellcheck(page: Path) -> None:
    # A page may source what its command before has made, such as .venv/bin/activate.
    options = ("--shell=bash", "--exclude=SC1091", "-")
    for block in blocks(page):
        if block.language in {"bash", "sh"}:
            assert complaints("shellcheck", *options, text=block.text) == ""


def test_a_faulty_script_is_noticed() -> None:
    assert "SC2086" in complaints("shellcheck", "--shell=sh", "-", text="rm -r $1\n")
