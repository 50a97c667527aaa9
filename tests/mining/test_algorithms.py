"""The table of algorithms is the list that the settings offer."""

from __future__ import annotations

from dataclasses import fields

import pytest

from mining.algorithms import ALGORITHMS
from utils.config import MiningSettings


def test_table_and_setting_name_the_same() -> None:
    choices = next(f for f in fields(MiningSettings) if f.name == "mining_algorithm")
    assert set(choices.metadata["rule"].choices) == set(ALGORITHMS)


@pytest.mark.parametrize("name", ALGORITHMS)
def test_settings_know_which_need_a_network(name: str) -> None:
    algorithm = ALGORITHMS[name]
    assert (algorithm.seeing is None) != (algorithm.unseen is None)
    assert MiningSettings(mining_algorithm=name).needs_network == (algorithm.unseen is None)
