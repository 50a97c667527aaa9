"""Command lines of tools: help at once, with defaults and units; errors below few lines."""

from __future__ import annotations

import argparse
import importlib
import re
from collections.abc import Callable

import pytest

from cli.parsers import Parser
from tests.help_cost import help_at_once
from tools import parsers

PARSERS: dict[str, Callable[[], Parser]] = {
    "tools.make_task": parsers.make_task_parser,
    "tools.demo": parsers.demo_parser,
    "tools.draw_dataset": parsers.draw_dataset_parser,
    "tools.check_out": parsers.check_out_parser,
    "bench.same_numbers": parsers.same_numbers_parser,
}


@pytest.mark.parametrize("name", PARSERS)
def test_help_waits_for_no_import(name: str) -> None:
    assert help_at_once(name).startswith(f"usage: python -m {name} ")


@pytest.mark.parametrize("name", PARSERS)
def test_every_flag_is_explained_with_its_default(name: str) -> None:
    actions = PARSERS[name]()._actions
    for action in list(actions):
        if isinstance(action, argparse._SubParsersAction):
            actions += [own for command in action.choices.values() for own in command._actions]
    for action in actions:
        assert action.help, action.dest
        takes_value = action.option_strings and action.nargs != 0
        if takes_value and not action.required and "repeatable" not in action.help:
            assert "default" in action.help, action.dest


@pytest.mark.parametrize(
    ("name", "words", "error"),
    [
        ("tools.make_task", "voc", "the following arguments are required: TASKDIR"),
        ("tools.make_task", "voc t --fromat ark", "--fromat ark; did you mean --format?"),
        ("tools.make_task", "voc t --format yolo", "argument --format: invalid choice: 'yolo'"),
        ("tools.demo", "--limit few", "argument --limit: invalid int value: 'few'"),
        ("tools.draw_dataset", "out --size 20 20", "--size at least 96 96"),
        ("tools.check_out", "", "the following arguments are required: TASKDIR"),
        ("bench.same_numbers", "record", "the following arguments are required: CHECKOUT"),
    ],
)
def test_an_error_stands_below_few_lines(
    name: str, words: str, error: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        importlib.import_module(name).main(words.split())
    lines = capsys.readouterr().err.splitlines()
    assert ended.value.code == 2
    place = next(number for number, line in enumerate(lines) if error in line)
    assert re.match(rf"usage: python -m {name} ", lines[0])
    assert place <= 5
