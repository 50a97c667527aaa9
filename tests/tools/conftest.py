"""Finished tasks for the checker's tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.tools.task_example import Example, build


@pytest.fixture
def training(tmp_path: Path) -> Example:
    return build(tmp_path, training=True)


@pytest.fixture
def looking(tmp_path: Path) -> Example:
    return build(tmp_path, training=False)
