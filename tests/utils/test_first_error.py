from __future__ import annotations

from pathlib import Path

from utils.errors import Code
from utils.first_error import VARIABLE, error_left, first_error, write_error_file


def test_only_the_first_error_counts(tmp_path: Path) -> None:
    own = []
    for rank in "01":
        (tmp_path / "attempt" / rank).mkdir(parents=True)
        own.append({VARIABLE: str(tmp_path / "attempt" / rank / "error.json")})
    assert first_error(tmp_path) is None
    assert not error_left(own[0])
    assert write_error_file(Code.DATASET, "Größe.", "trace", environment=own[1])
    assert not write_error_file(Code.CONTAINER, "the other is gone.", "", environment=own[0])
    assert error_left(own[0])
    assert first_error(tmp_path) == (Code.DATASET, "Größe.", "trace")


def test_without_a_launcher_every_error_is_the_first() -> None:
    assert write_error_file(Code.DATASET, "so", "", environment={})
    assert not error_left({})
