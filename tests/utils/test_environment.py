from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest

from utils.environment import CACHES, log_to_console, provide_home
from utils.logs import PROGRESS


@pytest.mark.parametrize("home", [None, "", "/", "/nonexistent"])
def test_a_home_is_provided_where_there_is_none(home: str | None) -> None:
    environment = {} if home is None else {"HOME": home}
    provide_home(environment)
    assert os.access(environment["HOME"], os.W_OK)
    assert set(CACHES) <= set(environment)
    assert environment["USER"]


def test_a_home_that_works_is_left_alone(tmp_path: Path) -> None:
    environment = {"HOME": str(tmp_path)}
    provide_home(environment)
    assert environment == {"HOME": str(tmp_path)}


def test_a_cache_that_was_chosen_is_kept() -> None:
    environment = {"HOME": "/", "TORCH_HOME": "/elsewhere"}
    provide_home(environment)
    assert environment["TORCH_HOME"] == "/elsewhere"


def test_lines_of_the_log(capsys: pytest.CaptureFixture[str]) -> None:
    """Not a terminal: one line about progress, no carriage return, no secret."""
    log_to_console()
    log = logging.getLogger("lines")
    for epoch in range(3):
        log.info("epoch %d", epoch, extra=PROGRESS)
    log.info("from https://me:word@host/x\rend")
    lines = capsys.readouterr().out
    assert [line.split(" ", 1)[1] for line in lines.splitlines()] == [
        "epoch 0",
        "from https://***@host/x end",
    ]
    assert "\r" not in lines
