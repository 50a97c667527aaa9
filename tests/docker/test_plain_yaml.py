"""The starter's reader gives the texts that PyYAML gives, however they were written."""

from __future__ import annotations

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from docker.live_code.plain_yaml import read_values

TEXTS = st.text(
    st.characters(codec="utf-8", exclude_categories=("Cs", "Cc", "Zl", "Zp")), max_size=120
)


@settings(deadline=None, max_examples=300)
@given(first=TEXTS, second=TEXTS, third=TEXTS, unicode=st.booleans())
def test_what_pyyaml_wrote_is_read_alike(
    first: str, second: str, third: str, unicode: bool
) -> None:
    content = {
        "class_names": ["a: b", "c"],
        "git_url": first,
        "input": {"git_url": "x", "root": second},
        "names": {"deep": {"git_url": "y"}},
        "last": third,
    }
    text = yaml.safe_dump(content, allow_unicode=unicode, sort_keys=False)
    wanted = {"git_url": "a", "input.root": "b", "last": "c"}
    assert read_values(text, wanted) == {"git_url": first, "input.root": second, "last": third}


CASES = [
    pytest.param("a: x # why", "x", id="comment"),
    pytest.param("a: x#y", "x#y", id="no comment"),
    pytest.param("a: ~", "", id="null"),
    pytest.param("a:", "", id="empty"),
    pytest.param("b: 1", "", id="absent"),
    pytest.param("a: x\r\nb: 1\r\n", "x", id="CRLF"),
    pytest.param("\ufeffa: x", "x", id="byte order mark"),
    pytest.param("a: \u00a0", "\u00a0", id="a blank that does not break"),
    pytest.param("l:\n- a: 1\n- q\na: 'it''s'", "it's", id="after a list"),
]


@pytest.mark.parametrize(("text", "value"), CASES)
def test_written_by_hand(text: str, value: str) -> None:
    assert read_values(text, {"a": "a"}) == {"a": value}


def test_other_notations_are_refused() -> None:
    with pytest.raises(ValueError, match="git_url must be plain"):
        read_values("git_url: |\n  x\n", {"git_url": "git_url"})
