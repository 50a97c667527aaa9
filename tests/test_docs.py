"""Documents: settings are accepted, links and named files exist."""

from __future__ import annotations

import os
import re
from dataclasses import fields
from pathlib import Path

import pytest
import yaml

from models.detector import Detector
from models.model_config import read_model_config
from models.summary import summarize
from settings.parse import SECTIONS, parse_settings
from tests.documents import PAGES, ROOT, blocks, where
from tests.test_floors import ALLOWED, PROGRAMS
from tools.build_site import twins
from utils.official_weights import KNOWN_SHA256, RELEASE

ZH = ROOT / "docs" / "zh"
LINK = re.compile(r"\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ (.*)$", re.MULTILINE)
ROWS = re.compile(r"^\| (?:Key|键) \| (?:Value|值) \|\n\|---\|---\|\n((?:\|.*\n)+)", re.MULTILINE)
PAIR = re.compile(
    r"mAP50\s(?:为\s)?(\.\d+)(?:\safter\s12\s|，从零训练)[^.]*?(?:with|100\s个\sepoch\s为)\s(\.\d+)"
)
"""mAP50 from COCO weights and from scratch, as pages state them beside a training."""
MODULE = re.compile(r"`((?:[\w-]+/)+[\w-]+\.py)`")


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


@pytest.mark.parametrize("name", ["docs/quick-start.md", "docs/zh/quick-start.md"])
def test_the_rows_of_the_quick_start_are_settings(name: str) -> None:
    """The first table of each part, typed as it stands there."""
    tables = re.findall(ROWS, (ROOT / name).read_text(encoding="utf-8"))
    assert len(tables) == 4
    for kind, table in zip(("training", "training", "mining", "infer"), tables, strict=True):
        rows = dict(re.findall(r"^\| `(\w+)` \| `([^`]+)`", table, re.MULTILINE))
        assert len(rows) > 1
        assert parse_settings(SECTIONS[kind], rows)[1] == []
    assert tables[0].count("\n") == 9


@pytest.mark.parametrize("name", ["README", "weights", "windows", "local"])
@pytest.mark.parametrize("language", ["en", "zh"])
def test_the_official_weights_are_fetched_before_they_are_used(name: str, language: str) -> None:
    """By one line that can be copied, from the release that the program knows."""
    place = f"docs/{'zh/' if language == 'zh' else ''}{name}.md"
    readme = "README_zh-CN.md" if language == "zh" else "README.md"
    text = (ROOT / (readme if name == "README" else place)).read_text(encoding="utf-8")
    (official,) = KNOWN_SHA256
    fetch = re.search(r"^curl(?:\.exe)? -LO (\S+)", text, re.MULTILINE)
    use = re.search(rf"(WEIGHTS=|--weights ){official}", text)
    assert fetch
    assert use
    assert fetch.start() < use.start()
    assert fetch[1] == RELEASE + official
    assert name != "weights" or KNOWN_SHA256[official] in text


@pytest.mark.parametrize("page", [*sorted(ZH.glob("*.md")), ROOT / "README_zh-CN.md"], ids=where)
def test_a_chinese_page_links_chinese_pages(page: Path) -> None:
    """Where there is one; a link to the English twin says 英文 (its own twin: English)."""
    text = page.read_text(encoding="utf-8")
    translated = {ROOT / one for one, twin in twins().items() if "zh" in twin.as_posix()}
    links = re.findall(r"\[([^\]]*)\]\(([^)\s#]+)[^)]*\)(.{,4})", text)
    assert links
    for words, target, after in links:
        if words != "English" and "英文" not in words + after:
            assert (page.parent / target).resolve() not in translated, target


def test_what_a_coco_start_brings_is_what_was_measured() -> None:
    """Each is the mean over the seeds in the tables of accuracy.md."""
    tables = (ROOT / "docs" / "accuracy.md").read_text(encoding="utf-8")
    (coco,) = re.findall(r"^\| raccoon \| `small` \| \d \| (\.\d+)", tables, re.MULTILINE)
    row = r"^\| raccoon \| 320 \| ours, `small` \| \d \| (\.\d+)"
    (scratch,) = re.findall(row, tables, re.MULTILINE)
    stated = {
        where(page): pair
        for page in PAGES
        for pair in re.findall(PAIR, page.read_text(encoding="utf-8"))
    }
    assert len(stated) == 9
    assert set(stated.values()) == {(coco, scratch)}


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
    (setting,) = (one for one in fields(SECTIONS["mining"]) if one.name == "mining_algorithm")
    rule = setting.metadata["spec"]
    assert [word for word in rule.choices if f"`{word}`" not in text] == []


def test_tests_that_a_page_names_exist() -> None:
    sources = "".join(path.read_text("utf-8") for path in (ROOT / "tests").rglob("test_*.py"))
    for page in PAGES:
        for name in re.findall(r"`(test_\w+)`", page.read_text("utf-8")):
            assert f"def {name}(" in sources, f"{where(page)}: {name}"
