from __future__ import annotations

import os
from pathlib import Path

import pytest

from utils.container import CACHES, provide_home


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
