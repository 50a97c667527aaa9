"""A missing package is one sentence; of several ranks' errors the first one counts."""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path

import pytest

from utils.errors import (
    Code,
    TaskError,
    best_effort,
    has_error_file,
    optional_package,
    read_error_file,
    write_error_file,
)


@pytest.mark.parametrize(
    ("name", "package"), [("no_such.part", "no_such"), ("json", "json")], ids=["missing", "broken"]
)
def test_a_package_that_cannot_be_imported_is_named(
    monkeypatch: pytest.MonkeyPatch, name: str, package: str
) -> None:
    assert optional_package("json", purpose="A test") is json
    monkeypatch.setitem(sys.modules, "json", None)
    words = f"^A test needs the package {package},.*install {package}, or do without"
    with pytest.raises(TaskError, match=words) as caught:
        optional_package(name, purpose="A test")
    assert caught.value.code is Code.CONFIG


def test_only_the_first_error_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def be_rank(rank: int) -> None:
        own = tmp_path / "attempt" / str(rank) / "error.json"
        own.parent.mkdir(parents=True, exist_ok=True)
        monkeypatch.setenv("TORCHELASTIC_ERROR_FILE", str(own))

    be_rank(0)
    assert read_error_file(tmp_path) is None
    assert not has_error_file()
    be_rank(1)
    assert write_error_file(Code.DATASET, "Größe.", "trace")
    be_rank(0)
    assert not write_error_file(Code.CONTAINER, "the other is gone.", "")
    assert has_error_file()
    assert read_error_file(tmp_path) == (Code.DATASET, "Größe.", "trace")


def test_without_a_launcher_every_error_is_the_first() -> None:
    assert write_error_file(Code.DATASET, "so", "")
    assert not has_error_file()


def test_a_failure_is_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    with best_effort("the picture", logging.getLogger()):
        pass
    with best_effort("the picture", logging.getLogger()):
        raise ValueError("no room")
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "the picture could not be made (ValueError: no room)" in record.getMessage()


def test_whoever_stops_the_task_stops_it() -> None:
    with pytest.raises(KeyboardInterrupt), best_effort("the picture", logging.getLogger()):
        raise KeyboardInterrupt
