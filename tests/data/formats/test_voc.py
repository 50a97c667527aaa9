"""Pascal VOC: objects as in the tree of the document, and what is refused."""

from __future__ import annotations

import pytest

from data.formats.base import AnnotationError
from data.formats.voc import VocObject, parse_voc, read_document
from tests.data.formats.annotation_example import CLASSES, HELMET, rows_of, voc

BOX = "<bndbox><xmin>1</xmin><ymin>2</ymin><xmax>3</xmax><ymax>4</ymax></bndbox>"
SIDES = {"xmin": "1", "ymin": "2", "xmax": "3", "ymax": "4"}


def document(*bodies: str, head: str = "") -> bytes:
    objects = "".join(f"<object>{body}</object>" for body in bodies)
    return f"{head}<annotation>{objects}</annotation>".encode()


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        pytest.param(b"<annotation/>", [], id="nothing"),
        pytest.param(document(f"{BOX}<name>cat</name>"), [("cat", SIDES)], id="name-last"),
        pytest.param(document("<name>a &amp; b</name>"), [("a & b", None)], id="no-box"),
        pytest.param(
            document(f"<name>cat</name><name>dog</name>{BOX}<bndbox/>"),
            [("cat", SIDES)],
            id="the-first-counts",
        ),
        pytest.param(document(f"<name/><name>dog</name><bndbox/>{BOX}"), [("", {})], id="empty"),
        pytest.param(
            document(f"<name>\n &#99;a<!-- x -->t<![CDATA[s ]]></name>{BOX}"),
            [("cats", SIDES)],
            id="comment-and-cdata",
        ),
        pytest.param(
            document(f"<part><name>leg</name>{BOX}</part><name>cat</name>"),
            [("cat", None)],
            id="parts-of-an-object",
        ),
        pytest.param(f"<a><b><object>{BOX}</object></b></a>".encode(), [], id="further-down"),
        pytest.param(
            document(f"<name>\xe9</name>{BOX}", head="<!DOCTYPE annotation>"),
            [("\xe9", SIDES)],
            id="doctype",
        ),
        pytest.param(
            document(f"<name>\xe9</name>{BOX}").decode().encode("utf-16"),
            [("\xe9", SIDES)],
            id="utf-16",
        ),
    ],
)
def test_objects(content: bytes, expected: list[tuple[str, dict[str, str] | None]]) -> None:
    assert read_document(content, "a.xml").objects == [VocObject(*one) for one in expected]


def test_boxes_are_inclusive_and_a_rotated_one_is_counted() -> None:
    annotation = parse_voc(voc(angle="0.25"), "a.xml", CLASSES)
    assert (rows_of(annotation), annotation.rotated) == ([HELMET], 1)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        pytest.param(b"<a>&x;</a>", "undefined entity", id="undefined-entity"),
        pytest.param(
            b'<!DOCTYPE a SYSTEM "b.dtd"><a>&x;</a>', "undefined entity &x;", id="entity-elsewhere"
        ),
        pytest.param(b'<!DOCTYPE a [<!ENTITY x "y">]><a/>', "EntitiesForbidden", id="entity"),
        pytest.param(b'<!DOCTYPE a [<!ENTITY % x "y">]><a/>', "EntitiesForbidden", id="parameter"),
        pytest.param(
            '<!DOCTYPE a [<!ENTITY x "y">]><a/>'.encode("utf-16"), "EntitiesForbidden", id="utf-16"
        ),
    ],
)
def test_refusals(content: bytes, said: str) -> None:
    with pytest.raises(AnnotationError) as caught:
        parse_voc(content, "a.xml", CLASSES)
    assert str(caught.value).startswith("a.xml")
    assert said in str(caught.value)
