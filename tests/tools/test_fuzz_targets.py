"""Every parser is there, and reads the sound documents that broken ones are made from."""

from __future__ import annotations

from tests.tools.test_fuzz import NAMES
from tools.fuzz_targets import Target


def test_every_parser_is_here(every_target: dict[str, Target]) -> None:
    assert tuple(every_target) == NAMES


def test_sound_documents_are_read(every_target: dict[str, Target]) -> None:
    """Otherwise every broken one would fail for a reason that is not its own."""
    for name, target in every_target.items():
        assert target.seeds, name
        assert all(target.parse(seed) is not None for seed in target.seeds), name
