"""Conversions that the bridge uses by themselves; those behind settings are in test_config.py."""

from __future__ import annotations

import pytest

from settings.convert import absent, to_bool, to_list
from utils.errors import TaskError


@pytest.mark.parametrize(
    ("value", "expected"),
    [(True, True), (False, False), (1, True), (0, False), ("False", False), (" yes ", True)],
)
def test_to_bool_knows_words(value: object, expected: bool) -> None:
    assert to_bool("run_mining", value) is expected


def test_to_bool_refuses_other_words() -> None:
    with pytest.raises(TaskError, match="run_mining is 'perhaps'; it must be true or false"):
        to_bool("run_mining", "perhaps")


@pytest.mark.parametrize(
    ("value", "expected"),
    [("a, b", ["a", "b"]), ("[a, 'b c']", ["a", "b c"]), ((1, 2), [1, 2]), ("", []), ("[]", [])],
)
def test_to_list(value: object, expected: list[object]) -> None:
    assert to_list("class_names", value) == expected


@pytest.mark.parametrize("value", ["[a", "[a: {]", 3, {"a": 1}])
def test_to_list_refuses(value: object) -> None:
    with pytest.raises(TaskError, match="class_names"):
        to_list("class_names", value)


def test_absent() -> None:
    assert all(map(absent, (None, "", " ", "None", "none")))
    assert not any(map(absent, (0, False, "0", [], "nothing")))


def test_a_refusal_stays_short() -> None:
    with pytest.raises(TaskError) as caught:
        to_bool("plots", "x" * 5000)
    assert len(caught.value.sentence) < 200
