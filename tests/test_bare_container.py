"""Whole tasks in the hardest container: 64 MB of /dev/shm, no network, nobody's uid, no HOME and a
read-only /in; from a checkout, and by the way of live code.
"""

from __future__ import annotations

import ast
import errno
import re
import shlex
import shutil
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest

from tests.bare_container import PROBE, run_bare
from tests.conftest import ROOT, TINY_TRAINING
from tests.task_results import findings
from tools.make_task import write_task
from tools.sources import SourceDataset


def judge(task: Path, done: subprocess.CompletedProcess[str]) -> str:
    """It ended well; what it said."""
    text = done.stdout + done.stderr
    assert done.returncode == 0, text
    assert findings(task) == []
    assert "DONE: every result is written." in text
    assert "Bus error" not in text
    return text


def test_it_is_as_hard_as_it_says(tmp_path: Path) -> None:
    """Without this, the next tests could pass in an ordinary place."""
    done = run_bare(tmp_path, [sys.executable, "-c", PROBE])
    assert done.returncode == 0, done.stderr
    found = ast.literal_eval(done.stdout)
    assert found == [54321, None, None, ["lo"], 64, [errno.EROFS, True, True]]


@pytest.mark.slow
def test_mining_and_inference(drawn: SourceDataset, weights: Path, tmp_path: Path) -> None:
    """The task was moved after it was written."""
    settings, kinds = {"img_size": "96", "batch_size": "4", "workers": "2"}, ("mining", "infer")
    task, moved = tmp_path / "written" / "task", tmp_path / "moved"
    write_task(drawn, task, kinds=kinds, settings=settings, weights=[weights], copy=True)
    moved.mkdir()
    task.rename(moved / "task")
    judge(moved / "task", run_bare(moved / "task", [sys.executable, "start.py"]))


def test_the_documents_mount_a_task_as_it_does() -> None:
    for page in ("docs/local.md", "docs/zh/local.md"):
        (command,) = re.findall("docker run.*", (ROOT / page).read_text("utf-8"))
        words = shlex.split(command)
        mounted = [after for word, after in pairwise(words) if word == "-v"]
        assert mounted == ["$PWD/task/in:/in:ro", "$PWD/task/out:/out"]
        assert words[-1] == "yolov5:baked"  # whose program is start.py


@pytest.fixture(scope="session")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository that holds what this checkout holds now, committed or not."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("this is no checkout of git")
    folder = tmp_path_factory.mktemp("repository")
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).is_file() and not name.startswith(("tests/", "bench/", "docs/")):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    identity = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
    for words in ("init --quiet --initial-branch=main", "add .", "commit --quiet --message=x"):
        subprocess.run(["git", *identity, *words.split()], cwd=folder, check=True)
    return folder


@pytest.mark.slow
def test_a_training_of_live_code(drawn: SourceDataset, tmp_path: Path, repository: Path) -> None:
    """Cloned to an empty /app, all that it needs found there, and started without a word more."""
    settings = {**TINY_TRAINING, "img_size": "320", "batch_size": "16", "workers": "8"}
    code = {"git_url": str(repository), "git_branch": "main", "code_config": "configs/default.yaml"}
    write_task(drawn, tmp_path, settings=settings | code, copy=True)
    done = run_bare(tmp_path, [sys.executable, "-m", "live_code"], folder=ROOT / "docker")
    # Of 64 MiB; the order of the images lies in shared memory too.
    memory = "/dev/shm has 63 MiB free: 4 worker processes instead of 8"
    assert memory in judge(tmp_path, done)
    assert "everything in extra-requirements.txt is there" in done.stdout
    status = ["git", "-c", f"safe.directory={tmp_path / 'app'}", "status", "--porcelain"]
    clean = subprocess.run(status, cwd=tmp_path / "app", capture_output=True, check=True)
    assert clean.stdout == b""  # nothing was written beside the code
