"""Environment variables: a home for a nameless user, one module that reads them; packages."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.test_floors import MODULES
from utils.environment import (
    CACHES,
    NEEDED,
    QUIET,
    RANK_VARIABLES,
    missing_packages,
    provide_home,
    ranks,
)


def set_environment(monkeypatch: pytest.MonkeyPatch, **variables: str | None) -> None:
    monkeypatch.setattr(os, "environ", {k: v for k, v in variables.items() if v is not None})


@pytest.mark.parametrize("home", [None, "", "/", "/nonexistent"])
def test_a_home_is_provided_if_there_is_none(
    monkeypatch: pytest.MonkeyPatch, home: str | None
) -> None:
    set_environment(monkeypatch, HOME=home, TORCH_HOME="/elsewhere")
    provide_home()
    assert os.access(os.environ["HOME"], os.W_OK)
    assert set(CACHES) <= set(os.environ)
    assert os.environ["USER"]
    assert os.environ["TORCH_HOME"] == "/elsewhere"


def test_a_writable_home_is_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    set_environment(monkeypatch, HOME=str(tmp_path))
    provide_home()
    assert os.environ == {"HOME": str(tmp_path)}


TORCHRUN = dict(zip(RANK_VARIABLES, "3412", strict=True)) | {"MASTER_ADDR": "here"}


def test_ranks_are_those_of_torchrun_if_all_variables_are_set(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A container may set one of these names for another purpose."""
    set_environment(monkeypatch, **TORCHRUN)
    assert ranks() == (3, 4, 1, 2)
    for missing in TORCHRUN:
        set_environment(monkeypatch, **{**TORCHRUN, missing: None})
        assert ranks() == (0, 1, 0, 1)


def test_one_module_reads_the_environment() -> None:
    text = {name: path.read_text(encoding="utf-8") for name, path in MODULES.items()}
    readers = {name for name, code in text.items() if re.search(r"\bos\.(environ|getenv)", code)}
    assert readers == {"utils.environment"}


def test_needed_packages_are_required_and_installed() -> None:
    text = (ROOT / "extra-requirements.txt").read_text(encoding="utf-8")
    assert set(NEEDED.values()) <= set(re.findall(r"^([\w-]+)>=", text, re.MULTILINE))
    assert missing_packages() == ""
    sentence = missing_packages(["cv2", "no_such_module", "os"])
    assert "has no no_such_module: install" in sentence
    assert "-m pip install -r extra-requirements.txt" in sentence


@pytest.mark.parametrize("program", [["start.py", "--help"], ["-m", "utils.environment"]])
def test_a_python_without_packages_ends_in_one_sentence(program: list[str]) -> None:
    # -S leaves out the folder of installed packages.
    done = subprocess.run(
        [sys.executable, "-S", *program], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"{sys.executable} has no torch, opencv-python-headless, numpy")


@pytest.mark.parametrize("module", ["exporting.format_onnx", "api.detector", "reporting.loggers"])
def test_packages_are_told_to_be_quiet_before_they_are_imported(module: str) -> None:
    code = f"""
import importlib.abc, os, sys
class Watch(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name in ("onnxruntime", "mlflow", "wandb"):
            print(name, os.environ.get("ORT_DISABLE_TELEMETRY"))
sys.meta_path.insert(0, Watch())
import {module}
print({{key: os.environ.get(key) for key in {sorted(QUIET)}}} == {QUIET})
"""
    bare = {key: value for key, value in os.environ.items() if key not in QUIET}
    words = [sys.executable, "-c", code]
    done = subprocess.run(words, cwd=ROOT, env=bare, capture_output=True, text=True, check=True)
    *imported, told = done.stdout.splitlines()
    assert told == "True"
    assert all(line.endswith(" 1") for line in imported), imported
