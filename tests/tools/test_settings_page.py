"""docs/settings.md, in both languages, is what the settings classes say."""

from __future__ import annotations

import re
from dataclasses import fields

import pytest
import yaml

from settings.parse import SECTIONS, parse_settings
from tools.settings_page import DOCS, pages

ROW = re.compile(r"^\| `(\w+)` \| `(.*?)` \| ([^|]+) \| ([^|]+) \|$", re.MULTILINE)
PARTS = {
    "training": ("Training",),
    "mining": ("Mining and inference", "Mining alone"),
    "infer": ("Mining and inference", "Inference alone"),
}


def rows(section: str) -> list[tuple[str, str, str, str]]:
    """Name, default, values and meaning of the settings of one kind of task."""
    sections = re.split(r"^## ", pages()["settings.md"], flags=re.MULTILINE)[1:]
    parts = dict(part.split("\n", 1) for part in sections)
    return [row for title in PARTS[section] for row in ROW.findall(parts[title])]


@pytest.mark.parametrize("name", pages())
def test_a_page_is_what_the_classes_say(name: str) -> None:
    written = (DOCS / name).read_text(encoding="utf-8")
    assert written == pages()[name], "run python -m tools.settings_page"


def test_both_languages_have_the_same_tables() -> None:
    english, chinese = (ROW.findall(text) for text in pages().values())
    assert english == chinese


@pytest.mark.parametrize("section", SECTIONS)
def test_every_setting_has_one_row_with_values_and_meaning(section: str) -> None:
    found = rows(section)
    assert [row[0] for row in found] == [item.name for item in fields(SECTIONS[section])]
    assert all(values.strip() and meaning.strip() for _, _, values, meaning in found)


@pytest.mark.parametrize("section", SECTIONS)
def test_the_defaults_as_printed_are_the_defaults(section: str) -> None:
    printed = {name: yaml.safe_load(default) for name, default, _, _ in rows(section)}
    settings, warnings = parse_settings(SECTIONS[section], printed)
    assert settings == SECTIONS[section]()
    assert warnings == []


@pytest.mark.parametrize(
    ("section", "name", "values"),
    [
        pytest.param("training", "optimizer", "one of sgd, adam, adamw", id="choices"),
        pytest.param("training", "batch_size", "whole number, 1 to 4096, or -1", id="besides"),
        pytest.param("training", "onnx", "true or false", id="flag"),
        pytest.param("training", "freeze", "list: whole number, 0 to 1000", id="list of numbers"),
        pytest.param("mining", "views", "list of flip, cutout, resize, rotate", id="list of words"),
        pytest.param("infer", "weights", "text", id="text"),
    ],
)
def test_what_may_be_given(section: str, name: str, values: str) -> None:
    assert {row[0]: row[2] for row in rows(section)}[name] == values
