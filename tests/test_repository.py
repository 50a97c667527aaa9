"""Files of the repository that are no program: what they name is there, and they stay small."""

from __future__ import annotations

import ast
import importlib.util
import re
import subprocess
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent


def test_every_hook_runs_a_module_that_exists() -> None:
    config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))
    entries = [hook["entry"].split() for repo in config["repos"] for hook in repo["hooks"]]
    assert len(entries) >= 4
    for python, option, module, *_ in entries:
        assert (python, option) == ("python", "-m")
        assert importlib.util.find_spec(module)


def test_the_workflow_runs_files_and_targets_that_exist() -> None:
    workflow = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text(encoding="utf-8"))
    commands = [s["run"] for job in workflow["jobs"].values() for s in job["steps"] if "run" in s]
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M)
    assert "bash .ci/run" in commands
    for program, argument in (command.split() for command in commands):
        assert (ROOT / argument).is_file() if program == "bash" else argument in targets


def test_issue_forms_have_what_a_form_needs() -> None:
    for path in (ROOT / ".github/ISSUE_TEMPLATE").glob("[!c]*.yml"):
        form = yaml.safe_load(path.read_text(encoding="utf-8"))
        assert {"name", "description", "body"} <= form.keys()
        assert all(part["attributes"]["label"] for part in form["body"]), path


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
    files = [ROOT / name for name in listed if (ROOT / name).is_file()]
    assert [path for path in files if path.stat().st_size > 600_000] == []
