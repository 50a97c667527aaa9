"""The pages docs/settings.md and docs/zh/settings.md: every setting, written from its class.

python -m tools.settings_page
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import Field, fields
from pathlib import Path
from typing import get_args, get_origin, get_type_hints

from settings.detect import DetectionSettings, InferSettings, MiningSettings
from settings.parse import ALIASES
from settings.train import TrainSettings
from utils.atomic import write_text

DOCS = Path(__file__).resolve().parent.parent / "docs"
INTRODUCTION = """\
# Settings

Written by `python -m tools.settings_page` from the classes of `settings/train.py` and
`settings/detect.py`; a test keeps the page true. [中文说明](zh/settings.md)

Every value may also arrive as text (`'True'`, `'0.5'`, `'1e-3'`, `'[1, 2]'` or `'1, 2'`), as YMIR's
web form sends it. An empty value means the default. An unknown key is a warning with the nearest
known name; a value that is not allowed ends the task with return code 300001 and a sentence that
names key, value and rule.

What counts, from least to most: the defaults below (also in
[configs/default.yaml](../configs/default.yaml)), the hyper-parameter set that `hyp` names, the file
that `code_config` names, the task's own keys, and the flags in its `args_options`. The flags of
v7.0's command lines stand in [compatibility.md](compatibility.md).
"""
INTRODUCTION_ZH = """\
# 全部设置

本页由 `python -m tools.settings_page` 根据 `settings/train.py` 与
`settings/detect.py` 中的设置类生成，并由测试保证一致。
表格沿用程序中的英文说明：setting 为名称，default 为默认值，values 为允许的取值，meaning 为含义。
[English](../settings.md)

所有取值都可以写成文本（`'True'`、`'0.5'`、`'1e-3'`、`'[1, 2]'` 或 `'1, 2'`），
YMIR 网页表单提交的正是文本。空值表示采用默认值。未知的键只产生警告，并提示最接近的名称；
不允许的取值会使任务以返回码 300001 结束，并用一句话指出键、取值与规则。

优先级从低到高：下表的默认值（亦见 [configs/default.yaml](../../configs/default.yaml)）、
`hyp` 指定的超参数、`code_config` 指定的文件、任务自己的键、`args_options` 中的命令行参数。
v7.0 的命令行参数见 [compatibility.md](../compatibility.md)。
"""
TITLES = ("Training", "Mining and inference", "Mining alone", "Inference alone", "Other names")
TITLES_ZH = ("训练", "挖掘与推理共用", "仅挖掘", "仅推理", "可识别的其他名称")
WORDS = {bool: "true or false", int: "whole number", float: "number", str: "text"}
KEY_AND_HELP = ("setting", "default", "values", "meaning")


def pages() -> dict[str, str]:
    """Both pages, by their path below docs/."""
    return {
        "settings.md": _page(INTRODUCTION, TITLES),
        "zh/settings.md": _page(INTRODUCTION_ZH, TITLES_ZH),
    }


def _page(introduction: str, titles: Sequence[str]) -> str:
    shared = frozenset(item.name for item in fields(DetectionSettings))
    tables = (
        _table(TrainSettings),
        _table(DetectionSettings),
        _table(MiningSettings, leave_out=shared),
        _table(InferSettings, leave_out=shared),
        _aliases(ALIASES),
    )
    parts = (f"## {title}\n\n{table}" for title, table in zip(titles, tables, strict=True))
    return "\n".join([introduction, *parts])


def _table(kind: type, *, leave_out: frozenset[str] = frozenset()) -> str:
    types = get_type_hints(kind)
    rows = [
        (f"`{item.name}`", _default(item.default), values(item, types[item.name]), _help(item))
        for item in fields(kind)
        if item.name not in leave_out
    ]
    return _markdown(KEY_AND_HELP, rows)


def values(item: Field, type_: type) -> str:
    """What a setting may be: its range or choices, else its type, then its unit."""
    rule = item.metadata["spec"]
    listed = get_origin(type_) is tuple
    single = get_args(type_)[0] if listed else type_
    allowed = rule.allowed.replace("one of ", "") if rule.choices else rule.allowed
    if not rule.choices:
        allowed = ", ".join(part for part in (WORDS[single], allowed) if part)
    if rule.choices and not listed:
        allowed = f"one of {allowed}"
    if listed:
        allowed = f"list of {allowed}" if rule.choices else f"list: {allowed}"
    return f"{allowed}; {rule.unit}" if rule.unit else allowed


def _help(item: Field) -> str:
    return str(item.metadata["spec"].help)


def _default(value: object) -> str:
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, tuple):
        return "`[" + ", ".join(map(str, value)) + "]`"
    return "`''`" if value == "" else f"`{value}`"


def _aliases(names: Mapping[str, str]) -> str:
    rows = [(f"`{other}`", f"`{ours}`") for other, ours in sorted(names.items())]
    return _markdown(("name", "setting"), rows)


def _markdown(heading: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = ["| " + " | ".join(heading) + " |", "|" + "---|" * len(heading)]
    for row in rows:
        # Angle brackets and bars would be taken as HTML and as borders of cells.
        cells = (cell.replace("|", "\\|").replace("<", "\\<") for cell in row)
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Write the pages."""
    for name, text in pages().items():
        write_text(DOCS / name, text)
        print(DOCS / name)


if __name__ == "__main__":
    main()
