"""The head of a log names the code, the machine and what was set."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
import torch

from settings.detect import MiningSettings
from settings.train import TrainSettings
from tasks.log_header import header, settings_line
from utils.environment import SHOWN, VERSION, commit

ROOT = Path(__file__).resolve().parents[2]
DIGITS = "0123456789abcdef" * 2 + "01234567"
BRANCH = "ref: refs/heads/main\n"


def test_version_commit_device_and_torch(tmp_path: Path) -> None:
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git" / "HEAD").write_text("a1" * 20)
    line = header("t7", "CPU (2 threads)", repository=tmp_path)
    assert line.startswith(f"task t7 on CPU (2 threads): ymir-yolov5 {VERSION}")
    assert " (commit a1a1a1a1a1a1), " in line
    assert f"torch {torch.__version__}" in line
    assert "commit" not in header("t7", "CPU", repository=tmp_path / "elsewhere")


def test_only_what_differs_is_told() -> None:
    assert settings_line("mining", MiningSettings()) == "mining settings: all as by default"
    changed = TrainSettings(epochs=3, freeze=(0, 1))
    assert settings_line("training", changed) == "training settings: epochs 3, freeze 0 1"


def test_the_version_is_that_of_the_project() -> None:
    assert f'version = "{VERSION}"' in (ROOT / "pyproject.toml").read_text("utf-8")


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        pytest.param({".git/HEAD": DIGITS + "\n"}, DIGITS, id="a commit or tag"),
        pytest.param(
            {".git/HEAD": BRANCH, ".git/refs/heads/main": DIGITS + "\n"}, DIGITS, id="a branch"
        ),
        pytest.param(
            {".git/HEAD": BRANCH, ".git/packed-refs": f"# pack-refs\n{DIGITS} refs/heads/main\n"},
            DIGITS,
            id="a packed branch",
        ),
        pytest.param({".git/HEAD": BRANCH}, "", id="a branch without commits"),
        pytest.param({".git/HEAD": "ref: ../../secret\n", "secret": "word\n"}, "", id="no commit"),
        pytest.param({}, "", id="no clone"),
    ],
)
def test_commit(tmp_path: Path, files: dict[str, str], expected: str) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text, "utf-8")
    assert commit(tmp_path) == expected[:SHOWN]


def test_as_git_says_it(tmp_path: Path) -> None:
    try:
        said = subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True
        ).stdout
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("this is no clone, or git is not here")
    if not (ROOT / ".git").is_dir():
        pytest.skip("this is a work tree")
    assert commit(ROOT) == said[:SHOWN]
