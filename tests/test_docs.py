"""Documents: commands and settings are accepted, links and named files exist."""

from __future__ import annotations

import argparse
import importlib
import os
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml

from models.detector import Detector
from models.model_config import read_model_config
from models.summary import summarize
from settings.parse import SECTIONS, parse_settings
from tests.test_floors import ALLOWED, PROGRAMS

ROOT = Path(__file__).resolve().parent.parent
PLACES = ("*.md", "docs/**/*.md", "docker/*.md", "template/*.md", "examples/*.md")
PAGES = [page for place in PLACES for page in sorted(ROOT.glob(place))]
ZH = ROOT / "docs" / "zh"
BLOCK = re.compile(r"^```(\w+) ?(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ (.*)$", re.MULTILINE)
MODULE = re.compile(r"`((?:[\w-]+/)+[\w-]+\.py)`")
FOREIGN_PROGRAMS = ("docker", "git", "mlflow", "wandb", ".")
"""Their arguments are not checked; the dot reads a shell's settings."""


class Block(NamedTuple):
    """A fenced example of a page."""

    language: str
    kind: str
    text: str


def blocks(page: Path) -> list[Block]:
    return [Block(*parts) for parts in BLOCK.findall(page.read_text(encoding="utf-8"))]


def where(page: Path) -> str:
    return str(page.relative_to(ROOT))


def commands() -> Iterator[object]:
    """Yield the words of every command in a shell example, without its comment."""
    for page in PAGES:
        for block in blocks(page):
            if block.language != "bash":
                continue
            for line in block.text.replace("\\\n", " ").splitlines():
                words = shlex.split(line, comments=True)
                if words:
                    yield pytest.param(words, id=f"{where(page)}: {' '.join(words)}"[:90])


class Accepted(Exception):
    """The arguments were parsed."""


@pytest.mark.parametrize("words", list(commands()))
def test_a_command_line_is_accepted(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    while "=" in words[0]:
        words = words[1:]
    program, *rest = words
    if program == "make":
        targets = re.findall(r"^(\w[\w-]*):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)
        assert {word for word in rest if "=" not in word} <= set(targets)
        return
    if program == "torchrun":
        rest = rest[next(n for n, word in enumerate(rest) if word.endswith(".py")) :]
    elif program in FOREIGN_PROGRAMS:
        return
    else:
        assert program in ("python", "python3"), program
    if rest[0] == "-m":
        name, arguments = rest[1], rest[2:]
    else:
        assert (ROOT / rest[0]).is_file(), rest[0]
        name, arguments = rest[0].removesuffix(".py").replace("/", "."), rest[1:]
    if name in ("pytest", "pip", "venv") or name.startswith("template."):
        return
    if (ROOT / name / "__main__.py").is_file():
        name += ".__main__"
    module = importlib.import_module(name)
    if not arguments:
        assert callable(module.main)
        return
    parse = argparse.ArgumentParser.parse_args

    def parse_and_stop(parser: argparse.ArgumentParser, *given: object) -> None:
        parse(parser, *given)
        raise Accepted

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", parse_and_stop)
    with pytest.raises(Accepted):
        module.main(arguments)


def test_a_wrong_flag_in_a_page_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SystemExit):
        test_a_command_line_is_accepted(["python", "start.py", "--environment"], monkeypatch)


@pytest.mark.parametrize("page", PAGES, ids=where)
def test_examples_of_a_page_are_settings_and_python(page: Path) -> None:
    for block in blocks(page):
        if block.language == "python":
            assert compile(block.text, where(page), "exec").co_names, block.text
        if block.language == "yaml":
            content = yaml.safe_load(block.text)
            assert isinstance(content, dict)
            if block.kind in SECTIONS:
                assert parse_settings(SECTIONS[block.kind], content)[1] == [], block.text


def anchors(page: Path) -> set[str]:
    """The anchors that a hosting page makes of headings."""
    headings = HEADING.findall(page.read_text(encoding="utf-8"))
    return {re.sub(r"[^\w\- ]", "", one.lower()).replace(" ", "-") for one in headings}


@pytest.mark.parametrize("page", PAGES, ids=where)
def test_links_and_named_modules_lead_to_files_and_headings(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    named = MODULE.findall(text) if page.stem != "CHANGELOG" else []
    assert [name for name in named if not (ROOT / name).is_file()] == []
    for target in LINK.findall(text):
        if not re.match(r"https?://", target):
            name, _, anchor = target.partition("#")
            path = (page.parent / name).resolve() if name else page
            assert path.exists(), target
            assert path.is_relative_to(ROOT), target
            assert not anchor or anchor in anchors(path), target


@pytest.mark.parametrize("page", sorted(ZH.glob("*.md")), ids=where)
def test_a_chinese_page_and_its_english_one_link_each_other(page: Path) -> None:
    """Their prose may differ: a change lands with the English page alone."""
    english = ROOT / "docs" / page.name
    if page.stem in ("docker", "template"):
        english = ROOT / page.stem / "README.md"
    for one, other in ((page, english), (english, page)):
        link = os.path.relpath(other, one.parent)
        assert f"]({link})" in one.read_text(encoding="utf-8")


def test_the_architecture_names_every_package_and_program() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    assert [name for name in ALLOWED if f"{name}[" not in text] == []
    assert " · ".join(PROGRAMS) in text


@pytest.mark.parametrize("letter", "nsmlx")
def test_parameters_of_the_sizes(letter: str) -> None:
    count = summarize(Detector(read_model_config(f"yolov5{letter}")).fused()).parameters
    text = (ROOT / "docs" / "choosing.md").read_text(encoding="utf-8")
    assert f"| `yolov5{letter}` | {count:,} |" in text


@pytest.mark.parametrize("name", ["mining.md", "choosing.md"])
def test_every_mining_algorithm_is_explained(name: str) -> None:
    text = (ROOT / "docs" / name).read_text(encoding="utf-8")
    rule = SECTIONS["mining"].__dataclass_fields__["mining_algorithm"].metadata["spec"]
    assert [word for word in rule.choices if f"`{word}`" not in text] == []


def test_tests_that_a_page_names_exist() -> None:
    sources = "".join(path.read_text("utf-8") for path in (ROOT / "tests").rglob("test_*.py"))
    for page in PAGES:
        for name in re.findall(r"`(test_\w+)`", page.read_text("utf-8")):
            assert f"def {name}(" in sources, f"{where(page)}: {name}"
