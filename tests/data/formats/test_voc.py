"""What is taken while a document is read is what its tree says; what is no XML is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from defusedxml.ElementTree import fromstring
from hypothesis import given, settings
from hypothesis import strategies as st

from data.formats.base import AnnotationError
from data.formats.voc import ANGLE, SIDES, VocObject, voc_objects

BOX = "<bndbox><xmin>1</xmin><ymin>2</ymin><xmax>3</xmax><ymax>4</ymax></bndbox>"
PLAIN = VocObject("cat", {"xmin": "1", "ymin": "2", "xmax": "3", "ymax": "4"})


def from_tree(content: bytes) -> list[VocObject]:
    """The slow way: the whole tree first, then a search in it."""
    objects = []
    for item in fromstring(content, forbid_dtd=False).findall("object"):
        box = item.find("bndbox")
        texts = {} if box is None else {side: box.findtext(side) for side in (*SIDES, ANGLE)}
        kept = {side: text for side, text in texts.items() if text is not None}
        objects.append(VocObject(item.findtext("name") or "", None if box is None else kept))
    return objects


def taken(content: bytes) -> list[VocObject]:
    return voc_objects(content, "a.xml", most=100)


def document(*bodies: str, head: str = "") -> bytes:
    objects = "".join(f"<object>{body}</object>" for body in bodies)
    return f"{head}<annotation>{objects}</annotation>".encode()


def test_an_object_by_hand() -> None:
    assert taken(document(f"<name>cat</name>{BOX}", "<name>a &amp; b</name>")) == [
        PLAIN,
        VocObject("a & b", None),
    ]


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"<annotation/>", id="nothing"),
        pytest.param(document("", "<name/>", BOX), id="empty-and-nameless"),
        pytest.param(document(f"{BOX}<name>cat</name>"), id="name-last"),
        pytest.param(document(f"<name>cat</name><name>dog</name>{BOX}{BOX}"), id="twice"),
        pytest.param(document(f"<name/><name>dog</name><bndbox/>{BOX}"), id="empty-ones-first"),
        pytest.param(document(f"<name>c<b>x</b>at</name>{BOX}"), id="element-in-the-name"),
        pytest.param(
            document(f"<name>c<!-- x -->at<?p i?>s</name>{BOX}"), id="comment-in-the-name"
        ),
        pytest.param(document(f"<name><![CDATA[c<a>t]]></name>{BOX}"), id="cdata"),
        pytest.param(document(f"<name>\n &#99;at </name>{BOX}"), id="blanks-and-a-character"),
        pytest.param(
            document("<bndbox><xmin>1<a/>2</xmin><a><ymin>5</ymin></a><ymin>3</ymin></bndbox>"),
            id="elements-among-the-sides",
        ),
        pytest.param(
            document(
                "<bndbox><xmin>1</xmin><xmin>2</xmin><rotate_angle>0.5</rotate_angle></bndbox>"
            ),
            id="side-twice-and-an-angle",
        ),
        pytest.param(
            document(f"<part><name>leg</name>{BOX}</part><name>cat</name>"), id="parts-of-an-object"
        ),
        pytest.param(document(f"<object><name>in</name>{BOX}</object>"), id="object-in-an-object"),
        pytest.param(f"<a><b><object>{BOX}</object></b></a>".encode(), id="object-further-down"),
        pytest.param(f"<object><name>root</name>{BOX}</object>".encode(), id="object-as-the-root"),
        pytest.param(f"<a><name>x</name>{BOX}<object/></a>".encode(), id="parts-outside-an-object"),
        pytest.param(
            b'<a xmlns="urn:x"><object><name>cat</name></object></a>', id="in-another-namespace"
        ),
        pytest.param(
            b'<a xmlns:x="urn:x"><object><x:name>no</x:name><name>cat</name></object></a>',
            id="a-prefix",
        ),
        pytest.param(b'<a><object id="1"><name k="v">cat</name></object></a>', id="attributes"),
        pytest.param(
            document(f"<name>cat</name>{BOX}", head="<!DOCTYPE annotation>"), id="doctype"
        ),
        pytest.param(
            document(f"<name>\xe9</name>{BOX}", head='<?xml version="1.0" encoding="utf-8"?>'),
            id="utf-8",
        ),
        pytest.param(document(f"<name>\xe9</name>{BOX}").decode().encode("utf-16"), id="utf-16"),
    ],
)
def test_the_same_as_from_a_tree(content: bytes) -> None:
    assert taken(content) == from_tree(content)


TAGS = ("object", "name", "bndbox", "xmin", "ymax", "rotate_angle", "part")
ELEMENTS = st.recursive(
    st.sampled_from(["", "7", " cat ", "<!-- - -->", "&lt;", "\n"]),
    lambda inner: st.builds(
        lambda tag, bodies: f"<{tag}>{''.join(bodies)}</{tag}>",
        st.sampled_from(TAGS),
        st.lists(inner, max_size=4),
    ),
    max_leaves=30,
)


@settings(max_examples=150, deadline=None)
@given(st.lists(ELEMENTS, max_size=4))
def test_any_nesting_is_read_as_from_a_tree(bodies: list[str]) -> None:
    content = document(*bodies)
    assert taken(content) == from_tree(content)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        pytest.param(b"", "no element found", id="empty"),
        pytest.param(b"<a><object></a>", "mismatched tag", id="mismatched"),
        pytest.param(b"<a/><b/>", "junk after document element", id="two-roots"),
        pytest.param(b"<a>&x;</a>", "undefined entity", id="undefined-entity"),
        pytest.param(
            b'<!DOCTYPE a SYSTEM "b.dtd"><a>&x;</a>', "undefined entity &x;", id="entity-elsewhere"
        ),
        pytest.param(b'<!DOCTYPE a [<!ENTITY x "y">]><a/>', "EntitiesForbidden", id="entity"),
        pytest.param(b'<!DOCTYPE a [<!ENTITY % x "y">]><a/>', "EntitiesForbidden", id="parameter"),
        pytest.param(
            b'<!DOCTYPE a [<!NOTATION n SYSTEM "n"><!ENTITY x SYSTEM "y" NDATA n>]><a/>',
            "EntitiesForbidden",
            id="unparsed-entity",
        ),
        pytest.param(
            '<!DOCTYPE a [<!ENTITY x "y">]><a/>'.encode("utf-16"),
            "EntitiesForbidden",
            id="entity-in-utf-16",
        ),
        pytest.param(document(*["<name>cat</name>"] * 101), "more than 100 objects", id="too-many"),
        pytest.param(document(*["", ""])[:-1], "not a readable XML document", id="cut-off"),
    ],
)
def test_refusals(content: bytes, said: str) -> None:
    with pytest.raises(AnnotationError) as caught:
        taken(content)
    assert str(caught.value).startswith("a.xml: ")
    assert said in str(caught.value)


def test_as_many_as_allowed_are_taken() -> None:
    assert len(taken(document(*["<name>cat</name>"] * 100))) == 100


def test_the_real_annotations_are_read_as_from_a_tree(shared: Path) -> None:
    files = sorted((shared / "data" / "bccd" / "Annotations").glob("*.xml"))
    assert files
    for file in files:
        content = file.read_bytes()
        assert taken(content) == from_tree(content), file.name
