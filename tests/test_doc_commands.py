"""Every command of the documents is accepted by its program, and is run or exempt for a reason."""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from itertools import takewhile
from pathlib import Path
from types import ModuleType

import cv2
import numpy as np
import pytest
import torch

from models.checkpoint import checkpoint_of, save_checkpoint
from models.detector import Detector
from models.model_config import read_model_config
from tests.documents import (
    PAGES,
    ROOT,
    Command,
    blocks,
    commands_of,
    made_by,
    program_of,
    read_commands,
    where,
)
from tools.draw_dataset import CLASS_NAMES
from tools.make_task import write_task
from tools.sources import SourceDataset, read_source

EXEMPT = {
    r"docker ": "needs docker; tests/test_bare_container.py starts the task as it would",
    r"(git clone|curl) ": "needs a network",
    r"(mlflow|wandb) ": "a program that the user installs, on its own files",
    r"(python3 -m venv |\. \.venv|python -m pip )": "installs packages; CI has them by make",
    r"torchrun ": "several processes: tests/test_torchrun.py, tests/test_shared_tasks.py",
    r"python (train|detect)\.py .*--device 0": "needs a GPU; tests marked gpu have a pretended one",
    r"make demo": "minutes; tests/tools/test_demo.py runs README's short one, smaller",
    r"make (test|check|format|generate|site|bench)\b": "CI itself, hours, or rewrites files",
    r"python -m pytest ": "the tests themselves",
    r"python -m bench\b": "minutes to hours; tests/bench runs parts of it",
    r"python -m tools\.check_out TASKDIR": "stands for any finished task: docs/local.md checks one",
    r"python train\.py .* augment_on=": "a measurement of minutes",
}
"""Commands that are only parsed, by their beginning, and why."""

MEASUREMENTS = ("docs/active-learning.md",)
"""Pages all of whose commands belong to a measurement of hours."""

ELSEWHERE = {
    "docs/python.md": "tests/api/test_documentation.py",
    "docs/zh/python.md": "tests/api/test_documentation.py",
    "docs/export.md": "tests/exporting/test_documentation.py",
}
"""Pages whose Python examples another test runs."""

NOT_RUN = {
    "yaml": "settings: tests/test_docs.py parses them",
    "mermaid": "a drawing",
    "text": "what a program prints",
    "": "a formula",
    "dockerfile": "needs docker",
    "powershell": "compared with what make runs",
}
"""Languages of blocks that nothing runs."""

CHECKED_ELSEWHERE = ("docker", "git", "curl", "mlflow", "wandb", ".", "pip", "venv", "pytest")
NEEDED = {"openvino": "openvino", "evolve.py": "optuna"}
"""Packages of the development requirements, by a word of the commands that need them."""

SMALL = {
    **dict.fromkeys(("--img", "--img-size", "--imgsz", "--tile-size", "img_size"), "64"),
    **dict.fromkeys(("--batch-size", "batch_size", "--images"), "4"),
    **dict.fromkeys(("--epochs", "epochs", "--trials"), "1"),
}
"""Values that only set the amount of work, replaced by small ones."""

ADDED = {
    **{f"{name}.py": ("--img", "64") for name in ("detect", "mine")},
    **{f"{name}.py": ("--img", "64", "--noplots") for name in ("train", "val", "evolve")},
    "export.py": ("--imgsz", "64"),
    "tools.make_task": ("--set", "img_size=64", "--set", "plots=false", "--set", "onnx=false"),
    "tools.draw_dataset": ("--images", "9", "--size", "96", "96"),
}
"""What is given first, so that a page's own values win: small sizes, no figures."""

EVERY = [command for page in PAGES for command in commands_of(page)]


def reason(command: Command) -> str | None:
    """Return why a command is not run, if it is not."""
    if command.page in MEASUREMENTS:
        return "a measurement of hours"
    reasons = [why for start, why in EXEMPT.items() if re.match(start, str(command))]
    return reasons[0] if reasons else None


def sessions() -> dict[str, list[str | Command]]:
    """Return what runs of each page, in its order: commands, and Python examples as text.

    A page whose commands all stand in an earlier one, as in its Chinese twin, has none.
    """
    found: dict[str, list[str | Command]] = {}
    seen: set[tuple[str, ...] | str] = set()
    for page in PAGES:
        name, run = where(page), list[str | Command]()
        for block in blocks(page):
            if block.language == "bash":
                commands = read_commands(block.text, name)
                run += [command for command in commands if reason(command) is None]
            elif block.language == "python" and name not in ELSEWHERE:
                run.append(block.text)
        keys = {item if isinstance(item, str) else item.words for item in run}
        if not keys <= seen:
            found[name] = run
        seen |= keys
    return found


SESSIONS = sessions()


class Accepted(Exception):
    """The arguments were parsed."""


def module_of(name: str) -> ModuleType:
    """Return a module by its dotted name or by its file in the repository."""
    if name.endswith(".py"):
        assert (ROOT / name).is_file(), name
        name = name.removesuffix(".py").replace("/", ".")
    if (ROOT / name / "__main__.py").is_file():
        name += ".__main__"
    return importlib.import_module(name)


def check_parsed(words: Sequence[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail unless the program accepts the arguments."""
    if words[0] == "make":
        made = made_by(words)
        assert made
        for command in made:
            check_parsed(command.words, monkeypatch)
        return
    if words[0] == "torchrun":
        script = next(n for n, word in enumerate(words) if word.endswith(".py"))
        words = ["python", *words[script:]]
    if words[0] in CHECKED_ELSEWHERE:
        return
    name, arguments = program_of(words)
    if name in (*CHECKED_ELSEWHERE, "ruff", "mypy") or name.startswith("template/"):
        return
    module = module_of(name)
    if not arguments:
        return
    parse = argparse.ArgumentParser.parse_args

    def parse_and_stop(parser: argparse.ArgumentParser, given: Sequence[str] | None = None) -> None:
        parse(parser, given)
        raise Accepted

    with monkeypatch.context() as patch:
        patch.setattr(argparse.ArgumentParser, "parse_args", parse_and_stop)
        with pytest.raises(Accepted):
            module.main(arguments)


@pytest.mark.parametrize("command", EVERY, ids=lambda one: f"{one.page}: {one}"[:90])
def test_a_command_is_accepted(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    check_parsed(command.words, monkeypatch)


@pytest.mark.parametrize(
    "text",
    [
        "python start.py --environment",
        "torchrun train.py --epochen 1",
        'make demo DEMO="--epochs 1"',
    ],
)
def test_a_wrong_flag_is_noticed(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (command,) = read_commands(text, "")
    with pytest.raises(SystemExit):
        check_parsed(command.words, monkeypatch)


def test_the_commands_for_powershell_are_those_of_make() -> None:
    lines = [
        line
        for block in blocks(ROOT / "docs" / "windows.md")
        if block.language == "powershell"
        for line in block.text.splitlines()
        if "#" in line
    ]
    assert len(lines) > 5
    for line in lines:
        command, _, made = line.partition("#")
        (here,), (there,) = read_commands(command, ""), read_commands(made, "")
        options = [sorted(one.words) for one in made_by(there.words)]
        assert sorted(here.words) in options, line


def test_every_block_is_run_or_exempt() -> None:
    known = {"bash", "python", *NOT_RUN}
    for page in PAGES:
        fences = re.findall(r"^[ >]*```", page.read_text(encoding="utf-8"), re.MULTILINE)
        assert len(fences) == 2 * len(blocks(page)), f"{where(page)}: a block is indented"
        for block in blocks(page):
            assert block.language in known, where(page)
            if block.language in ("", "text"):
                hidden = re.search(r"^(python|make|git|curl|docker)\S* ", block.text, re.MULTILINE)
                assert not hidden, f"{where(page)}: a command must be in a block ```bash"
    run = {item.words for part in SESSIONS.values() for item in part if isinstance(item, Command)}
    assert [str(one) for one in EVERY if one.words not in run and reason(one) is None] == []
    for start in EXEMPT:
        assert any(re.match(start, str(one)) for one in EVERY), f"nothing begins with {start}"
    assert all((ROOT / test).is_file() for test in ELSEWHERE.values())


def small(words: Sequence[str]) -> list[str]:
    """Return the words with small sizes and counts; all else stays as the page has it."""
    out: list[str] = []
    rest = list(words)
    while rest:
        word = rest.pop(0)
        key, equals, _ = word.partition("=")
        if equals and key in SMALL:
            word = f"{key}={SMALL[key]}"
        out.append(word)
        if word in SMALL and word.startswith("--"):
            numbers = list(takewhile(str.isdecimal, rest))
            del rest[: len(numbers)]
            out += [SMALL[word]] * len(numbers)
    at = 3 if out[1] == "-m" else 2
    return [*out[:at], *ADDED.get(out[at - 1], ()), *out[at:]]


@pytest.fixture
def folder(data_yaml: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with the files that the pages name, small."""
    shutil.copytree(data_yaml.parent, tmp_path, dirs_exist_ok=True)
    text = (tmp_path / "data.yaml").read_text(encoding="utf-8")
    moved = text.replace(str(data_yaml.parent), str(tmp_path))
    (tmp_path / "data.yaml").write_text(moved, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    module_of("tools.draw_dataset").main(["path/to/voc", "--images", "9", "--size", "96", "96"])
    for name in ("bccd", "raccoon"):
        (tmp_path / "path" / "to" / name).symlink_to("voc")
    pictures = sorted((tmp_path / "path/to/voc").rglob("*.jpg"))
    for place in ("photographs", "aerial"):
        (tmp_path / place).mkdir()
        for number, picture in enumerate(pictures[:2]):
            shutil.copyfile(picture, tmp_path / place / f"{number}.jpg")
    shutil.copyfile(pictures[0], "picture.jpg")
    video = cv2.VideoWriter("clip.mp4", cv2.VideoWriter.fourcc(*"mp4v"), 5, (64, 64))
    for level in (60, 120):
        video.write(np.full((64, 64, 3), level, np.uint8))
    video.release()
    torch.manual_seed(0)
    network = Detector(read_model_config("yolov5n", len(CLASS_NAMES)))
    save_checkpoint(Path("best.pt"), checkpoint_of(network, CLASS_NAMES))
    for name in ("yolov5n", "yolov5s", "bccd_yolov5n"):
        shutil.copyfile("best.pt", f"{name}.pt")
    return tmp_path


@pytest.fixture
def source(folder: Path) -> SourceDataset:
    return read_source(folder / "path" / "to" / "voc")


@pytest.mark.slow
@pytest.mark.parametrize("page", SESSIONS)
def test_commands_of_a_page_run(page: str, source: SourceDataset) -> None:
    """One after the other, as a reader would; a page that begins with a task is given one."""
    for item in SESSIONS[page]:
        if isinstance(item, str):
            exec(compile(item, page, "exec"), {"__name__": "example"})
            continue
        needed = [package for word, package in NEEDED.items() if word in item.words]
        if any(importlib.util.find_spec(package) is None for package in needed):
            continue
        if any(word.startswith("task/") for word in item.words) and not Path("task").exists():
            write_task(source, Path("task"))
        name, arguments = program_of(small(item.words))
        if name.startswith("template/"):
            command = [sys.executable, str(ROOT / name), *arguments]
            assert subprocess.run(command, check=False).returncode == 0, item
        else:
            assert module_of(name).main(arguments) in (0, None), str(item)
