"""YAML within bounds: the same values as the ordinary reader, and refusals instead of bombs."""

from __future__ import annotations

import pytest
import yaml

from utils.safe_yaml import load_yaml

MERGES = "a0: &a0 {x: 1, y: 2}\n" + "".join(
    f"a{n}: &a{n}\n  <<: [{', '.join([f'*a{n - 1}'] * 12)}]\n" for n in range(1, 12)
)


@pytest.mark.parametrize(
    "text",
    ["", "a: 1", "[1, 2.5, x, null]", "a: &b [1]\nc: *b", "a: &b {x: 1}\nc:\n  <<: *b\n  y: 2"],
)
def test_it_gives_what_the_ordinary_reader_gives(text: str) -> None:
    assert load_yaml(text) == yaml.safe_load(text)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        pytest.param("[" * 20_000, "too deep", id="deep"),
        pytest.param("a: &a [*a]", "contains itself", id="circle"),
        pytest.param(
            "a0: &a0 [1]\n"
            + "".join(f"a{n}: &a{n} [{f'*a{n - 1}, ' * 9}]\n" for n in range(1, 30)),
            "aliases",
            id="laughs",
        ),
        pytest.param(MERGES, "aliases", id="merges"),
        pytest.param("a: 0x" + "f" * 5000, "a number of 5002 characters", id="digits"),
        pytest.param("a: 2021-13-45", "month", id="date"),
        pytest.param("a: !!int no", "invalid literal", id="tagged"),
        pytest.param("a: !!bool maybe", "cannot be understood", id="tagged-bool"),
    ],
)
def test_what_has_no_value_is_a_value_error(text: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        load_yaml(text)


def test_names_of_python_are_not_known() -> None:
    with pytest.raises(yaml.YAMLError):
        load_yaml("!!python/object/apply:os.system ['true']")
