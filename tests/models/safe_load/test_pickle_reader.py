"""Pickles read as data, as Python's own reader does; hostile ones: test_hostile_weights.py."""

from __future__ import annotations

import pickle
import struct
from functools import partial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.safe_load import pickle_reader
from models.safe_load.pickle_reader import MAX_VALUES, Inert, Name, Refused, StandIn, read_pickle

NAMES = {
    "m.C": Name("m.C", lambda *arguments: StandIn("m.C", arguments)),
    "builtins.set": Name("builtins.set", lambda members=(): set(members)),
    # How bytes are written by the protocols before 3.
    "_codecs.encode": Name("_codecs.encode", lambda text, codec: text.encode(codec)),
    "builtins.bytes": Name("builtins.bytes", lambda: b""),
}


def unknown(path: str) -> Name:
    if path == "a.Inert":
        return Name(path, partial(Inert, path))
    raise Refused(f"asks for {path}")


def read(pickled: bytes) -> object:
    return read_pickle(pickled, NAMES, lambda identity: ("outside", identity), unknown)


SCALARS = st.one_of(
    *(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(), st.binary())
)
KEYS = st.one_of(st.text(), st.integers(), st.none(), st.binary())
VALUES = st.recursive(
    st.one_of(SCALARS, st.sets(st.integers())),
    lambda inner: st.one_of(
        st.lists(inner), st.tuples(inner, inner), st.dictionaries(KEYS, inner), st.tuples(inner)
    ),
)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@given(value=VALUES)
@settings(deadline=None, max_examples=60)
def test_plain_values_are_those_of_pickle(protocol, value):
    assert read(pickle.dumps(value, protocol=protocol)) == value


@pytest.mark.parametrize("length", [0, 1, 255, 256, 70_000])
@pytest.mark.parametrize("protocol", [2, 4])
def test_long_texts_and_shared_parts(length, protocol):
    part = ["ä" * length, {"k" * length: length}]
    first, second = read(pickle.dumps([part, part], protocol=protocol))
    assert first == part
    assert first is second


@pytest.mark.parametrize(
    "pickled",
    [
        pytest.param(b"\x80\x02cm\nC\n)\x81}X\x01\x00\x00\x00aK\x01sb.", id="new and build"),
        pytest.param(b"\x80\x02cm\nC\n)R}X\x01\x00\x00\x00aK\x01sb.", id="call and build"),
        pytest.param(
            b"\x80\x04\x8c\x01m\x8c\x01C\x93)\x81}\x8c\x01aK\x01s}\x86b.", id="state and slots"
        ),
    ],
)
def test_objects_keep_their_state(pickled):
    made = read(pickled)
    assert isinstance(made, StandIn)
    assert made.attribute("a") == 1
    assert made.attribute("b") is None


@pytest.mark.parametrize(
    "pickled",
    [
        pytest.param(b"(K\x01tRK\x01b", id="state"),
        pytest.param(b")R(K\x01K\x02e", id="items of a list"),
        pytest.param(b")R(K\x01K\x02u", id="items of a mapping"),
        pytest.param(b")R(K\x01\x90", id="members of a set"),
        pytest.param(b")R)R", id="call of an object"),
        pytest.param(b")}\x92", id="keywords"),
    ],
)
def test_nothing_of_an_inert_object_is_kept(pickled):
    made = read(b"\x80\x04ca\nInert\n" + pickled + b".")
    assert isinstance(made, Inert)
    assert (made.arguments, made.state) == ((), None)


def test_inert_objects_and_short_tuples_are_keys():
    assert len(read(b"\x80\x02}(ca\nInert\n)RNK\x01K\x02\x86Nu.")) == 2


def test_persistent_identities_are_asked_for():
    assert read(b"\x80\x02K\x05Q.") == ("outside", 5)


@pytest.mark.parametrize(
    ("pickled", "words"),
    [
        pytest.param(b"c__builtin__\neval\n.", "asks for builtins.eval", id="name of Python 2"),
        pytest.param(b"(S'x'\nios\nsystem\n.", "instruction STRING", id="text instruction"),
        pytest.param(b"(cm\nC\no.", "instruction OBJ", id="old object"),
        pytest.param(b"\x82\x01.", "instruction EXT1", id="extension registry"),
        pytest.param(b"Pid\n.", "instruction PERSID", id="persistent id as text"),
        pytest.param(b"\x80\x02K\x01)R.", "not a name", id="call of a number"),
        pytest.param(b"\x80\x02cm\nC\nK\x01R.", "not a name", id="arguments are no tuple"),
        pytest.param(b"\x80\x02cm\nC\n)R)R.", "not a name", id="call of an object"),
        pytest.param(b"\x80\x02K\x01}b.", "attributes of something", id="state of a number"),
        pytest.param(b"\x80\x02cm\nC\n}b.", "attributes of something", id="state of a name"),
        pytest.param(b"\x80\x02}K\x01a.", "not a list", id="append to a mapping"),
        pytest.param(b"\x80\x02]K\x01K\x02s.", "not a mapping", id="item of a list"),
        pytest.param(b"\x80\x04](K\x01\x90.", "not a set", id="member of a list"),
        pytest.param(b"\x80\x02}q\x00K\x01h\x00s.", "contains itself", id="mapping in itself"),
        pytest.param(b"\x80\x02cm\nC\n)\x81q\x00h\x00b.", "contains itself", id="object in itself"),
    ],
)
def test_what_is_refused(pickled, words):
    with pytest.raises(Refused, match=words):
        read(pickled)


def test_the_number_of_instructions_has_a_limit(monkeypatch):
    monkeypatch.setattr(pickle_reader, "MAX_INSTRUCTIONS", 100)
    assert read(b"\x80\x02" + b"N" * 98 + b".") is None
    with pytest.raises(Refused, match="more than 100 instructions"):
        read(b"\x80\x02" + b"N" * 100 + b".")


def test_arguments_are_not_copied_without_end():
    """One long text, and calls that would each make another copy of it."""
    text = b"X" + struct.pack("<I", 100_000) + b"a" * 100_000
    arguments = text + b"X\x06\x00\x00\x00latin1\x86q\x00"
    calls = b"c_codecs\nencode\nh\x00R" * (MAX_VALUES // 100_000 + 1)
    with pytest.raises(Refused, match="unfolds to more"):
        read(b"\x80\x02(" + arguments + calls + b"l.")


@pytest.mark.parametrize(
    "pickled",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"\x80\x02", id="no end"),
        pytest.param(b"\x80\x02X\xff\xff\xff\xffa.", id="text longer than the file"),
        pytest.param(b"\x80\x04\x8d" + b"\xff" * 8 + b"a.", id="text of 2^64 characters"),
        pytest.param(b"\x80\x02\x87.", id="tuple of nothing"),
        pytest.param(b"\xff.", id="no instruction"),
        pytest.param(b"\x80\x02X\x01\x00\x00\x00\xff.", id="not UTF-8"),
        pytest.param(b"\x80\x02}(K\x01u.", id="a key without a value"),
    ],
)
def test_no_whole_pickle(pickled):
    with pytest.raises((ValueError, LookupError)):
        read(pickled)
