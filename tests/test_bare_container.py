"""Whole tasks in the hardest container: 64 MB of /dev/shm, no network, nobody's uid, no HOME and a
read-only /in; from a checkout, and by the way of live code.
"""

from __future__ import annotations

import ast
import errno
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.bare_container import PROBE, as_in_a_container, run_bare
from tests.conftest import ROOT, TINY_TRAINING
from tools.check_out import check_out
from tools.make_task import write_task
from tools.sources import SourceDataset

TRAINING = {**TINY_TRAINING, "epochs": "2", "img_size": "320", "batch_size": "16", "workers": "8"}
"""As many of eight worker processes as fit into 64 MB."""
LOOKING = {"img_size": "96", "batch_size": "4", "workers": "2"}
CASES = [
    pytest.param(("training",), TRAINING, id="training"),
    pytest.param(("mining", "infer"), LOOKING, id="mining and inference"),
]


def make(
    drawn: SourceDataset,
    task: Path,
    kinds: tuple[str, ...],
    settings: dict[str, str],
    weights: Path,
    **live: str,
) -> None:
    """A task whose files are all its own, in the words of a container; `live` names its code."""
    handed = [] if "training" in kinds else [weights]
    env_file = write_task(drawn, task, kinds=kinds, settings=settings, weights=handed, copy=True)
    config = env_file.with_name("config.yaml")
    content = yaml.safe_load(config.read_text("utf-8")) | live
    config.write_text(yaml.safe_dump(content), "utf-8")
    as_in_a_container(task)


def judge(task: Path, done: subprocess.CompletedProcess[str], kinds: tuple[str, ...]) -> None:
    """It ended well, and said what it could not have."""
    text = done.stdout + done.stderr
    assert done.returncode == 0, text
    assert [f"{f.rule}: {f.sentence}" for f in check_out(task)] == []
    assert "DONE: every result is written." in text
    assert "Bus error" not in text
    if "training" in kinds:
        # Of 64 MiB; the order of the images lies in shared memory too.
        assert "/dev/shm has 63 MiB free: 4 worker processes instead of 8" in text


def test_it_is_as_hard_as_it_says(tmp_path: Path) -> None:
    """Without this, the next tests could pass in an ordinary place."""
    done = run_bare(tmp_path, [sys.executable, "-c", PROBE])
    assert done.returncode == 0, done.stderr
    found = ast.literal_eval(done.stdout)
    assert found == [54321, None, None, ["lo"], 64, [errno.EROFS, True, True]]


@pytest.mark.slow
@pytest.mark.parametrize(("kinds", "settings"), CASES[1:])
def test_a_whole_task(
    drawn: SourceDataset,
    weights: Path,
    tmp_path: Path,
    kinds: tuple[str, ...],
    settings: dict[str, str],
) -> None:
    make(drawn, tmp_path, kinds, settings, weights)
    judge(tmp_path, run_bare(tmp_path, [sys.executable, "start.py"]), kinds)


@pytest.fixture(scope="session")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository that holds what this checkout holds now, committed or not."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if listed.returncode:
        pytest.skip("this is no checkout of git")
    folder = tmp_path_factory.mktemp("repository")
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).is_file() and not name.startswith(("tests/", "bench/", "docs/")):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    identity = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
    steps = (
        ("init", "--quiet", "--initial-branch=main"),
        ("add", "."),
        ("commit", "--quiet", "--message=x"),
    )
    for words in steps:
        subprocess.run(["git", *identity, *words], cwd=folder, check=True)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize(("kinds", "settings"), CASES[:1])
def test_live_code(
    drawn: SourceDataset,
    weights: Path,
    tmp_path: Path,
    repository: Path,
    kinds: tuple[str, ...],
    settings: dict[str, str],
) -> None:
    """Cloned to an empty /app, all that it needs found there, and started without a word more."""
    code = {"git_url": str(repository), "git_branch": "main", "code_config": "configs/default.yaml"}
    make(drawn, tmp_path, kinds, settings, weights, **code)
    done = run_bare(tmp_path, [sys.executable, "-m", "live_code"], folder=ROOT / "docker")
    judge(tmp_path, done, kinds)
    assert "everything in extra-requirements.txt is there" in done.stdout
    status = ["git", "-c", f"safe.directory={tmp_path / 'app'}", "status", "--porcelain"]
    clean = subprocess.run(status, cwd=tmp_path / "app", capture_output=True, check=True)
    assert clean.stdout == b""  # nothing was written beside the code
