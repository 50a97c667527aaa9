"""Hooks, workflow and templates of the repository name commands that are there."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

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
