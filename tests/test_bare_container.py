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
from pathlib import Path

import pytest

from tests.bare_container import PROBE, run_bare
from tests.conftest import ROOT, TINY_TRAINING
from tests.documents import commands_of
from tests.task_results import findings
from tools import make_task
from tools.draw_dataset import draw_dataset
from tools.make_task import write_task
from tools.sources import SourceDataset

WAYS = ("in:ro", "out")
"""How the platform mounts the folders of a task."""


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


def documented(page: str) -> tuple[list[str], dict[str, str], list[str]]:
    """Return what a page gives: arguments of make_task, mounts, image and its command."""
    commands = [list(one.words) for one in commands_of(ROOT / page)]
    (at,) = (n for n, words in enumerate(commands) if words[:2] == ["docker", "run"])
    made, docker = commands[at - 1], iter(commands[at][2:])
    mounts, rest = dict[str, str](), list[str]()
    for word in docker:
        if word == "-v":
            host, _, inside = next(docker).partition(":")
            mounts[inside] = host
        elif word == "--shm-size":
            next(docker)
        elif word != "--rm":
            rest = [word, *docker]
    assert made[:3] == ["python", "-m", "tools.make_task"]
    return made[3:], mounts, rest


@pytest.mark.slow
def test_the_container_of_the_documents(
    weights: Path, tmp_path: Path, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its task is made by the page's command, moved, mounted as there, and run by the image's."""
    assert documented("docs/local.md") == documented("docs/zh/local.md")
    arguments, mounts, (image, *command) = documented("docs/local.md")
    monkeypatch.chdir(tmp_path)
    draw_dataset(Path(arguments[0]), images=12, size_wh=(160, 120), seed=1)
    shutil.copyfile(weights, "yolov5n.pt")
    small = [f"--set={key}={value}" for key, value in {**TINY_TRAINING, "epochs": 1}.items()]
    assert make_task.main([*arguments, *small]) == 0
    assert mounts == {f"/{way}": f"$PWD/{arguments[1]}/{way.partition(':')[0]}" for way in WAYS}
    shutil.rmtree(arguments[0])
    task = tmp_path / "moved" / arguments[1]
    task.parent.mkdir()
    Path(arguments[1]).rename(task)
    shutil.copytree(repository, task / "app")  # as Dockerfile.baked does
    started = (ROOT / "docker" / f"start-{image.partition(':')[2]}.sh").read_text("utf-8")
    words = shlex.split(re.findall("exec (.*)", started)[0].replace('"$@"', ""))
    done = run_bare(task, [sys.executable, *words[1:], *command], folder=ROOT / "docker")
    judge(task, done)
