"""Rules that the source itself must keep: every file introduced, the map true."""

from __future__ import annotations

import ast
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
RUNTIME = [
    path
    for pattern in (
        "*.py",
        "utils/*.py",
        "models/*.py",
        "mining/*.py",
        "tools/*.py",
        "exporting/*.py",
        "engines/*.py",
        "docker/live_code/*.py",
        "template/*.py",
    )
    for path in sorted(ROOT.glob(pattern))
]


def ids(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", RUNTIME, ids=ids)
def test_every_file_says_its_one_idea(path: Path) -> None:
    assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))


def test_requirements_are_lowest_versions_only() -> None:
    lines = (ROOT / "extra-requirements.txt").read_text(encoding="utf-8").splitlines()
    entries = [line for line in lines if line and not line.startswith("#")]
    assert entries
    for entry in entries:
        assert re.fullmatch(r'[\w-]+>=[\d.]+; python_version >= "3\.10"', entry), entry


def test_start_still_parses_on_python_3_8() -> None:
    tree = ast.parse((ROOT / "start.py").read_text(encoding="utf-8"), feature_version=(3, 8))
    assert any(isinstance(node, ast.FunctionDef) and node.name == "main" for node in tree.body)
    with pytest.raises(SyntaxError):
        ast.parse("match 1:\n    case _:\n        pass", feature_version=(3, 8))


def test_no_file_of_the_clone_is_large() -> None:
    listed = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False
    ).stdout.split()
    large = [
        name
        for name in listed
        if (ROOT / name).is_file() and (ROOT / name).stat().st_size > 600_000
    ]
    assert not large
