"""Fixtures of the tests of tools."""

from __future__ import annotations

import pytest

from tools.fuzz_targets import Target, targets


@pytest.fixture(scope="session")
def every_target(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Target]:
    """The parsers that are fed broken input, by name."""
    return targets(tmp_path_factory.mktemp("fuzz"))
