"""Records handed out one by one are those that json finds, wherever the text is cut."""

from __future__ import annotations

import json
from typing import Any

import pytest
from data.formats.json_lists import Irregular, read_lists
from hypothesis import given, settings
from hypothesis import strategies as st

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
RECORDS = st.lists(st.dictionaries(st.text(max_size=5), VALUES, max_size=4), max_size=5)


def read(content: bytes, piece: int = 7) -> tuple[frozenset[str], dict[str, list[Any]]]:
    found: dict[str, list[Any]] = {"a": [], "b": []}
    keys = read_lists(content, {"a": found["a"].append, "b": found["b"].append}, piece=piece)
    return keys, found


@settings(max_examples=60, deadline=None)
@given(
    a=RECORDS, b=RECORDS, other=VALUES, ascii_only=st.booleans(), indent=st.sampled_from([None, 1])
)
def test_like_json_at_any_cut(
    a: list[Any], b: list[Any], other: object, ascii_only: bool, indent: int | None
) -> None:
    document = {"a": a, "other": other, "b": b}
    text = json.dumps(document, ensure_ascii=ascii_only, indent=indent)
    content = text.encode("utf-8", "surrogatepass")
    for piece in (1, 7, 64, 1 << 20):
        keys, found = read(content, piece)
        assert keys == {"a", "other", "b"}
        assert found == {"a": a, "b": b}


@pytest.mark.parametrize("number", ["12345678", "-1.5e-30", "1E+5", "0.25"])
@pytest.mark.parametrize("piece", range(1, 12))
def test_a_number_that_is_cut_stays_whole(number: str, piece: int) -> None:
    content = f'{{"a": [{{"n": {number}}}], "c": {number}}}'.encode()
    assert read(content, piece)[1]["a"] == [{"n": float(number)}]


def test_a_mark_of_utf_8_and_a_missing_list_are_plain() -> None:
    assert read(b'\xef\xbb\xbf {"b": []} \n') == (frozenset({"b"}), {"a": [], "b": []})


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"[]", id="a-list"),
        pytest.param(b"{}", id="nothing-in-it"),
        pytest.param(b'{"a": [], "a": []}', id="key-twice"),
        pytest.param(b'{"a": null}', id="no-list"),
        pytest.param(b'{"a": {"x": 1}}', id="no-list-but-an-object"),
        pytest.param(b'{"a": [1]}', id="no-record"),
        pytest.param(b'{"a": [{},]}', id="comma-too-many"),
        pytest.param(b'{"a": [{} {}]}', id="comma-missing"),
        pytest.param(b'{"a": [{}]', id="cut-off"),
        pytest.param(b'{"a": [{"x": "y', id="cut-off-in-a-text"),
        pytest.param(b'{"a": []} x', id="something-behind"),
        pytest.param(b"{1: []}", id="key-is-no-text"),
        pytest.param(b'{"a": [{"x": "\xff"}]}', id="not-utf-8"),
        pytest.param('{"a": []}'.encode("utf-16"), id="utf-16"),
        pytest.param('{"a": []}'.encode("utf-16-le"), id="utf-16-without-mark"),
        pytest.param(b'{"z": ' + b"[" * 200_000, id="too-deep"),
    ],
)
def test_anything_else_is_left_to_json(content: bytes) -> None:
    with pytest.raises(Irregular):
        read(content)
