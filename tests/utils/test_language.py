"""Log lines, error sentences and their parts in Chinese: complete, quick, and never misleading."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import start
from cli.options import language_of
from cli.train import parse_train_command
from tools.texts import PROGRAMS, known_keys, missing, page_texts, stale, texts, unmarked
from utils.language.catalogue import CHINESE, FOLDER, catalogue, language_named, read_texts
from utils.logs import log_to_console
from ymir.task import task_language

ZH = catalogue(CHINESE)
FILES = {path.name: read_texts(path) for path in sorted((FOLDER / CHINESE).glob("*.yaml"))}
NAMES = {"augment_on: host", "cache: gpu", "augment_on: device", "the GPU", "epoch"}
"""Texts of names alone, the same in every language."""
SLOT = re.compile(r"\{\d+\}|%\(\w+\)s")
CODE = """
import logging
log = logging.getLogger(__name__)

def check(path, bad):
    '''Raise an error of two words or more.'''
    if bad:
        reason = "it is quite impossible" if bad > 1 else "it is improbable"
        raise TaskError(1, f"the file {path} cannot be eaten ({reason}).")
    log.warning("eaten: %d of %s", bad, path)
    log.debug("a word to programmers")
"""


def test_every_text_for_users_has_a_translation_and_no_translation_is_left_over() -> None:
    known, found = known_keys(), [*texts(), *page_texts()]
    assert [f"{text.place}: {text.key}" for text in missing(known, found)] == []
    assert stale(known, found) == []  # python -m tools.texts prints both
    assert [f"{text.place}: {text.key}" for text in unmarked()] == []


def test_words_of_a_template_are_marked(tmp_path: Path) -> None:
    lines = (
        '<p class="wide">{% trans count=n %}{{ count }} cat{% pluralize %}{{ count }} cats',
        '{%- endtrans %}</p>{{ _("a marked text") }} {{ ("a bare text", _("word")) }}',
        '{{ ngettext("%(n)s dog", "%(n)s dogs", n, n=n) }}<b>bare</b>',
    )
    (tmp_path / "page.html").write_text("\n".join(lines))
    assert [text.key for text in page_texts(tmp_path)] == [
        "%(count)s cats",
        "a marked text",
        "word",
        "%(n)s dogs",
    ]
    assert [text.key for text in unmarked(tmp_path)] == ['"a bare text"', "bare"]


def test_a_new_sentence_is_missed(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "eating.py").write_text(CODE)
    (tmp_path / "tools").mkdir()
    for name in PROGRAMS:
        (tmp_path / f"{name}.py").write_text("")
    found = texts(tmp_path)
    assert {text.key: text.place for text in missing([], found)} == {
        "it is quite impossible": "data/eating.py:8",
        "it is improbable": "data/eating.py:8",
        "the file {1} cannot be eaten ({2}).": "data/eating.py:9",
        "eaten: {1} of {2}": "data/eating.py:10",
    }
    assert missing([text.key for text in found], found) == []
    assert stale(["it is improbable", "nobody says this"], found) == ["nobody says this"]


@pytest.mark.parametrize("name", FILES)
def test_a_translation_is_chinese_and_has_no_slots_of_its_own(name: str) -> None:
    keys = [key for file in FILES.values() for key in file]
    for key, text in FILES[name].items():
        assert keys.count(key) == 1, key
        assert set(SLOT.findall(text)) <= set(SLOT.findall(key)), key
        is_chinese = re.search("[\u4e00-\u9fff\uff00-\uffef]", text)
        assert is_chinese or key in {"FAILED: {1}", *NAMES}, key


@pytest.mark.parametrize(
    ("english", "chinese"),
    [
        (
            "the setting epochs is 'many'; it must be a whole number, 1 to 100000.",
            "参数 epochs 为 'many'；必须为 1 至 100000 的整数。",
        ),
        (
            "the task's configuration file /in/a b.yaml cannot be read (Permission denied).",
            "任务的配置文件 /in/a b.yaml 无法读取（没有权限）。",
        ),
        (
            "The weight file /in/best.pt is an ONNX file: an export; give the .pt file that it was "
            "exported from.",
            "权重文件 /in/best.pt 是 ONNX 文件：一种导出格式；请给出导出它的那个 .pt 文件。",
        ),
        ("unknown setting foo, ignored; did you mean box?", "未知参数 foo，已忽略；您是否指 box？"),
        (
            "note: iou_t has no effect: v7.0 does not use it either",
            "注意：iou_t 无效：v7.0 也不使用",
        ),
        (
            "a.tsv: 2 of 3 images usable, 4 boxes, 0 images without objects\n"
            "1 image listed twice, taken once\n"
            "b.tsv: 5 of 5 images usable, 6 boxes, 1 image without objects",
            "a.tsv：3 张图片中有 2 张可用，4 个框，0 张图片没有目标\n"
            "1 张图片重复列出，只取一次\n"
            "b.tsv：5 张图片中有 5 张可用，6 个框，1 张图片没有目标",
        ),
        (
            "d.yaml names 'x', which is not below /a, b; the download that it offers is not done: "
            "this program fetches nothing and runs nothing that a data set names, so get the "
            "images yourself.",
            "d.yaml 指定的 'x' 不在 /a, b 之下；其中提供的下载不会执行：本程序不下载、"
            "也不运行数据集指定的任何内容，请自行取得图片。",
        ),
        ("d.yaml names 'x', which is not below /a, b.", "d.yaml 指定的 'x' 不在 /a, b 之下。"),
        (
            "class cat          <- (fresh)\nclass traffic light <- traffic light",
            "类别 cat          <- （新建）\n类别 traffic light <- traffic light",
        ),
        (
            "1 image (0 unreadable, 0 without objects), 1,234 objects: cat 1,233, dog 1",
            "1 张图片（0 张不可读，0 张没有目标），1,234 个目标: cat 1,233, dog 1",
        ),
        ("a sentence that nobody wrote: 7 of 8", "a sentence that nobody wrote: 7 of 8"),
        ("class names", "class names"),
        ("", ""),
    ],
)
def test_finished_texts(english: str, chinese: str) -> None:
    assert ZH.text(english) == chinese
    assert catalogue("en").text(english) == english


@pytest.mark.parametrize(
    ("english", "chinese"),
    [
        ("2 false positives, 3 labelled", "误检 2 个，已标注 3 个"),
        (
            "flip: object lost, 6 of 39 detections shown",
            "flip：目标丢失，显示 39 个检测结果中的 6 个",
        ),
        ("own score 0.993, distance 0.30, 1 detection", "自身分数 0.993，距离 0.30，1 个检测结果"),
        ("cat, dog: labelled", "cat, dog: labelled"),
    ],
)
def test_captions(english: str, chinese: str) -> None:
    assert catalogue("zh", pages=True).phrases(english) == chinese
    assert catalogue("en", pages=True).phrases(english) == english


def test_hostile_texts_take_no_time() -> None:
    began = time.perf_counter()
    for part in ("a; b: c, or d", " is ", "note: ", "{1} {2}: ", "the file (", "\n"):
        ZH.text(part * 3000)
    assert time.perf_counter() - began < 5


def test_a_log_in_chinese(capsys: pytest.CaptureFixture[str]) -> None:
    log_to_console(language="zh")
    log = logging.getLogger("lines")
    log.info("going on after epoch %d of %d (%s)", 3, 10, "/out/100%.state")
    log.warning(
        "starting anew: %s",
        "/a is of another training (lr0 was 1, is 2): go on with the pictures, labels and settings "
        "that it had, or start anew without resume.",
    )
    log.info("100%% %s", "sure")
    log.info("the setting api_key is 'abc'; it must be a number, 0 to 1.")
    log.warning("wrong %d", "number")
    lines = [line.split(" ", 1)[1] for line in capsys.readouterr().out.splitlines()]
    assert lines == [
        "从 epoch 3 之后继续，共 10 个（/out/100%.state）",
        "重新开始：/a 属于另一次训练（lr0 原为 1，现为 2）：请以当时的图片、标注与参数继续，"
        "或去掉 resume 重新开始。",
        "100% sure",
        "参数 api_key 为 '***'；必须为 0 至 1 的数。",
    ]
    log_to_console()
    log.info("going on after epoch %d of %d (%s)", 3, 10, "x")
    assert capsys.readouterr().out.endswith(" going on after epoch 3 of 10 (x)\n")


@pytest.mark.parametrize("word", ["zh", "ZH-cn", "zh_CN.UTF-8", "中文", "Chinese", "cn"])
def test_names_of_chinese(word: str) -> None:
    assert language_named(word) == "zh"


@pytest.mark.parametrize("word", ["", None, "en", "fr", "klingon", 7, ["zh"]])
def test_anything_else_is_english(word: object) -> None:
    assert language_named(word) == "en"


@pytest.mark.parametrize(
    ("words", "language"),
    [
        (["--data", "x"], "en"),
        (["--language", "zh"], "zh"),
        (["--language=zh_CN", "--img", "320"], "zh"),
        (["epochs=3", "language=zh"], "zh"),
        (["--language", "zh", "--language", "en"], "en"),
        (["--language"], "en"),
        (["language", "zh"], "en"),
        ([], "en"),
    ],
)
def test_the_language_of_a_command_line(words: list[str], language: str) -> None:
    assert language_of(words) == language


@pytest.mark.parametrize("words", ["--language zh", "language=zh", "--language en language=zh"])
def test_the_language_of_a_training(words: str) -> None:
    data = ["--data", "data.yaml"]
    assert parse_train_command([*data, *words.split()]).settings.language == "zh"
    assert parse_train_command(data).settings.language == "en"


@pytest.mark.parametrize(
    ("config", "language"),
    [
        pytest.param({}, "en", id="the default"),
        pytest.param({"language": "zh_CN"}, "zh", id="of the task"),
        pytest.param({"language": "zh", "epochs": "many"}, "zh", id="beside an error"),
        pytest.param({"language": "fr"}, "en", id="an unknown one"),
        pytest.param({"code_config": "chinese.yaml"}, "zh", id="of the settings file"),
        pytest.param({"code_config": "chinese.yaml", "language": "en"}, "en", id="of both"),
        pytest.param({"code_config": "none.yaml", "language": "zh"}, "zh", id="without the file"),
        pytest.param({"code_config": "wrong.yaml", "language": "zh"}, "zh", id="no such section"),
    ],
)
def test_the_language_of_a_task(
    make_task: Callable[..., Path], tmp_path: Path, config: dict[str, str], language: str
) -> None:
    (tmp_path / "chinese.yaml").write_text("training: {language: zh}")
    (tmp_path / "wrong.yaml").write_text("training: 7")
    assert task_language(make_task(config=config), repository=tmp_path) == language


def test_the_language_of_no_task_is_english(tmp_path: Path, make_task: Callable[..., Path]) -> None:
    assert task_language(tmp_path / "env.yaml") == "en"
    env_file = make_task(config={"language": "zh"})
    (tmp_path / "in" / "config.yaml").write_text("[", encoding="utf-8")
    assert task_language(env_file) == "en"


def test_an_error_is_told_in_the_language_of_the_task(
    make_task: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    env_file = make_task(config={"language": "zh", "epochs": "many"})
    assert start.main(["--env", str(env_file)]) == 1
    said = "参数 epochs 为 'many'；必须为 1 至 100000 的整数。"
    assert capsys.readouterr().out == f"FAILED (300001): {said}\n"
    columns, first, *_ = (tmp_path / "out" / "monitor.txt").read_text("utf-8").splitlines()
    assert columns.split("\t")[3:] == ["4", "300001", said]
    assert first == said
