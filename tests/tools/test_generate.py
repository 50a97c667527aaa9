"""Generated tables and files are up to date and say what settings, flags and tests say."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

import pytest
import yaml

from settings.parse import SECTIONS, parse_settings
from settings.v7_flags import FLAGS, Command
from tests.reliability.bad_input import PARTS
from tests.reliability.checklist import CHECKLIST
from tools import generate
from tools.generate import DOCS, PART, TABLES, default_yaml, generated, image_templates, main, page
from utils.errors import Code

SETTINGS = {
    "training": ("settings of training",),
    "mining": ("settings of detection", "settings of mining"),
    "infer": ("settings of detection", "settings of inference"),
}


@pytest.fixture(scope="module")
def wanted() -> dict[Path, str]:
    return generated()


def rows(*names: str) -> list[list[str]]:
    return [list(row) for name in names for row in TABLES[name]().rows]


def test_everything_generated_is_up_to_date(wanted: dict[Path, str]) -> None:
    stale = [path for path, text in wanted.items() if path.read_text(encoding="utf-8") != text]
    assert not stale, "run make generate"
    templates = {path for path in generate.IMAGES.rglob("*") if path.is_file()}
    assert templates <= set(wanted), "files that are not generated"


def test_every_table_stands_in_a_page_and_in_both_languages_where_both_have_it() -> None:
    names = {path: [part[1] for part in PART.findall(path.read_text("utf-8"))]
             for path in DOCS.rglob("*.md")}  # fmt: skip
    assert {name for found in names.values() for name in found} == set(TABLES)
    for path, found in names.items():
        if path.parent.name == "zh":
            assert found == names.get(DOCS / path.name, []), path


def test_only_what_stands_between_the_marks_is_replaced() -> None:
    before = "# Page\n\n<!-- generated: return codes -->\nold\n<!-- end -->\n\nmore\n"
    after = page(before, {})
    assert after.startswith("# Page\n\n<!-- generated: return codes -->\n\n| code |")
    assert after.endswith("|\n\n<!-- end -->\n\nmore\n")
    assert page(after, {}) == after
    with pytest.raises(KeyError):
        page(before.replace("return codes", "recipes"), {})


def test_a_text_without_a_translation_stays_english() -> None:
    text = page("<!-- generated: return codes -->\n<!-- end -->", {"no error": "没有错误"})
    assert "| 0 | OK | | 没有错误 | |" in text
    assert "| OBJECT_TYPE | Object type not supported | the task is not detection |" in text


def test_a_part_and_a_pattern_are_translated() -> None:
    words = {"a; b": "甲", r"^(\d+) to (\d+)$": r"\1 至 \2", "c": "丙"}
    assert generate.translated("a; b; 3 to 4; d; c", words) == "甲；3 至 4；d；丙"


def test_every_translation_is_of_a_text_that_is_there() -> None:
    cells = {cell for table in TABLES.values() for row in (table().heading, *table().rows)
             for cell in row}  # fmt: skip
    parts = cells | {part for cell in cells for part in cell.split("; ")}
    words = yaml.safe_load(generate.TRANSLATIONS.read_text("utf-8"))
    patterns = {key for key in words if key.startswith("^")}
    assert [key for key in words.keys() - patterns if not any(key in cell for cell in cells)] == []
    assert [key for key in patterns if not any(re.search(key, part) for part in parts)] == []


@pytest.mark.parametrize("name", ["training", "detection", "mining", "inference"])
def test_every_setting_has_a_chinese_meaning(name: str) -> None:
    words = generate.chinese()
    meanings = [row[3] for row in TABLES[f"settings of {name}"]().rows]
    assert [text for text in meanings if generate.translated(text, words) == text] == []


@pytest.mark.parametrize("command", FLAGS)
def test_every_flag_has_a_chinese_meaning(command: Command) -> None:
    meanings = [row[2] for row in TABLES[f"flags of {command}"]().rows]
    translated = [generate.translated(text, generate.chinese()) for text in meanings]
    assert [text for text in translated if not re.search("[\u4e00-\u9fff]", text)] == []


def test_check_names_what_is_stale_and_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "page.md"
    path.write_text("old")
    monkeypatch.setattr(generate, "ROOT", tmp_path)
    monkeypatch.setattr(generate, "generated", lambda: {path: "new"})
    assert main(["--check"]) == 1
    assert (path.read_text(), capsys.readouterr().out) == ("old", "page.md\n")
    assert main([]) == 0
    assert (path.read_text(), main(["--check"])) == ("new", 0)


@pytest.mark.parametrize("section", SECTIONS)
def test_every_setting_has_its_default_values_and_meaning(section: str) -> None:
    found = rows(*SETTINGS[section])
    assert [row[0].strip("`") for row in found] == [i.name for i in fields(SECTIONS[section])]
    assert all(cell for row in found for cell in row)
    printed = {row[0].strip("`"): yaml.safe_load(row[1].strip("`")) for row in found}
    assert parse_settings(SECTIONS[section], printed) == (SECTIONS[section](), [])


@pytest.mark.parametrize("command", FLAGS)
def test_every_flag_has_one_row_that_says_what_is_done(command: Command) -> None:
    found = rows(f"flags of {command}")
    assert [row[0].split("`")[1] for row in found] == [f.names[0] for f in FLAGS[command]]
    assert all(cell for row in found for cell in row)


def test_every_return_code_is_explained() -> None:
    found = rows("return codes")
    assert [(row[0], row[1]) for row in found] == [(str(int(code)), code.name) for code in Code]
    assert all(row[2] and row[3] for row in found[1:])


SCREEN = {
    300001: ("Container: Config file error", "容器: 配置文件错误"),
    300002: ("Training / Validation dataset error", "训练集或测试集错误"),
    300003: ("Unknown image format", "图片格式错误"),
    300004: ("Model error", "模型错误"),
    300005: ("Object type not supported", "数据或模型类型不支持"),
    300101: ("CUDA and GPU mismatch", "CUDA 与 GPU 不兼容"),
    300102: ("No GPU", "未找到 GPU"),
    300103: ("Out Of Memory", "内存或显存不足"),
    300201: ("NaN error", "NaN 错误"),
    300301: ("Network error", "网络错误"),
    160004: ("RC_CMD_CONTAINER_ERROR: image container error", "CMD: 容器错误"),
}
"""What the web pages of YMIR 2.x show for a code, in both languages."""


@pytest.mark.parametrize("page", ["return-codes.md", "zh/return-codes.md"])
def test_the_screens_words_for_a_code_are_given_whole(page: str) -> None:
    text = (DOCS / page).read_text("utf-8")
    found = [row.split(" | ") for row in text.splitlines() if re.match(r"\| \d{6} ", row)]
    words = {int(cells[0].strip("| ")): cells[2] for cells in found}
    assert words == {code: both[page.startswith("zh")] for code, both in SCREEN.items()}


def test_every_clause_and_every_case_of_bad_input_has_a_row() -> None:
    assert [row[2].count("](../tests/") for row in rows("contract")] == [
        len(clause.tests) for clause in CHECKLIST
    ]
    for title, cases in PARTS.items():
        found = rows(f"bad input: {title}")
        assert [row[0] for row in found] == [case.name for case in cases]
        assert all(row[1].startswith(("taken", "skipped", "refused, 300")) for row in found)


def test_default_yaml_keeps_comments_and_gains_and_loses_settings() -> None:
    text = generate.DEFAULTS.read_text("utf-8").replace("# Loss.", "# Loss, by part.")
    lost = re.sub(r"^  epochs:.*\n", "  gone: 3\n", text, flags=re.MULTILINE)
    assert default_yaml(lost) == text


@pytest.mark.parametrize("section", SECTIONS)
def test_a_template_gives_the_defaults_and_no_warning(section: str) -> None:
    text = image_templates()[f"baked/{section}-template.yaml"]
    assert parse_settings(SECTIONS[section], yaml.safe_load(text)) == (SECTIONS[section](), [])
    assert all(line.startswith("#") or "  # " in line for line in text.splitlines())
    # A key of the template beats the file code_config, so a live-code image has none of ours.
    reserved = yaml.safe_load(image_templates()[f"live-code/{section}-template.yaml"])
    assert reserved.keys() <= {"gpu_count", "shm_size", "export_format"}


def test_only_the_live_code_image_declares_live_code() -> None:
    for image, live in (("live-code", True), ("baked", False)):
        manifest = yaml.safe_load(image_templates()[f"{image}/manifest.yaml"])
        assert manifest["enable_livecode"] is live
