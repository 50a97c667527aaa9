"""Every case of bad input ends as its table says, which is what docs/bad-input.md tells."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.reliability.bad_input import PARTS
from tests.reliability.case import Case

ALL = [
    pytest.param(case, id=f"{part}: {case.name}") for part, cases in PARTS.items() for case in cases
]


@pytest.mark.parametrize("case", ALL)
def test_the_case_ends_as_told(case: Case, tmp_path: Path) -> None:
    ending = case.meet(tmp_path)
    assert (ending.fate, ending.code) == (case.fate, case.code), ending.text
    for words in case.says:
        assert words in ending.text
    assert {key: ending.facts[key] for key in case.facts} == dict(case.facts)


def test_there_are_many_and_no_two_of_one_name() -> None:
    assert len(ALL) >= 80
    for cases in PARTS.values():
        names = [case.name for case in cases]
        assert len(names) == len(set(names))
