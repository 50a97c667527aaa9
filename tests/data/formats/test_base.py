"""Annotation files: three formats, the same boxes; faults named with file and line."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.formats.base import (
    AnnotationError,
    AnnotationReader,
    ClassLookup,
    CocoFile,
    parse_ark,
    parse_voc,
)

CLASSES = ClassLookup(["helmet", "Vest"])
HELMET = (0, 30.0, 41.0, 80.0, 105.0)  # x 30, y 41, w 50, h 64: exclusive right and bottom
VOC = """<annotation><filename>/in/assets/9c/3f.jpg</filename><cks/>
 <size><width>0</width><height>0</height></size>
 <object><name>{name}</name><truncated>unknown</truncated><bndbox><xmin>30</xmin><ymin>41</ymin>
 <xmax>79</xmax><ymax>104</ymax><rotate_angle>{angle}</rotate_angle></bndbox>
 <difficult>0</difficult></object>{more}</annotation>"""


def voc(name: str = "helmet", angle: str = "0.0000", more: str = "") -> bytes:
    return VOC.format(name=name, angle=angle, more=more).encode()


def coco(**changes: object) -> bytes:
    document: dict[str, object] = {
        "images": [{"id": 1, "file_name": "3f.jpg"}, {"id": 2, "file_name": "empty.jpg"}],
        "categories": [{"id": 0, "name": "helmet"}, {"id": 1, "name": "vest"}],
        "annotations": [
            {
                "id": 1,
                "image_id": 1,
                "category_id": 0,
                "bbox": [30, 41, 50, 64],
                "area": 0,
                "iscrowd": 1,
                "segmentation": {},
                "confidence": 0,
            }
        ],
    }
    return json.dumps({**document, **changes}).encode()


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("0, 30, 41, 79, 104", id="5-columns-1.1.0"),
        pytest.param("0, 30, 41, 79, 104, -1.0", id="6-columns-1.2"),
        pytest.param("0, 30, 41, 79, 104, -1.0, 0.0", id="7-columns-2.x"),
        pytest.param("0,30,41,79,104\r\n\r\n", id="crlf-and-blank-line"),
        pytest.param("  0\t30  41\t79 104\n", id="any-blanks"),
        pytest.param("0.0, 30.0, 41.0, 79.0, 104.0,", id="floats-and-trailing-comma"),
    ],
)
def test_ark_columns(text: str) -> None:
    assert parse_ark(text, "a.txt", CLASSES).rows == [HELMET]


def test_ark_one_pixel_box_and_background() -> None:
    assert parse_ark("1, 5, 6, 5, 6", "a.txt", CLASSES).rows == [(1, 5, 6, 6, 7)]
    assert parse_ark("", "a.txt", CLASSES).rows == []


def test_a_rotated_box_is_counted_and_taken_upright() -> None:
    objects = parse_ark("0, 30, 41, 79, 104, -1.0, 0.25", "a.txt", CLASSES)
    assert (objects.rows, objects.rotated) == ([HELMET], 1)
    objects = parse_voc(voc(angle="0.25"), "a.xml", CLASSES)
    assert (objects.rows, objects.rotated) == ([HELMET], 1)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        pytest.param(
            "0, 1, 1, 2, 2\n2, 30, 41, 79, 104",
            "a.txt line 2: class index 2 is not a whole number from 0 to 1",
            id="class-too-large",
        ),
        pytest.param("-1, 3, 4, 7, 10", "a.txt line 1: class index -1", id="class-negative"),
        pytest.param("0.5, 3, 4, 7, 10", "class index 0.5", id="class-fraction"),
        pytest.param("0, 30, 41, 79", "line 1: '0, 30, 41, 79' has 4 numbers", id="too-few"),
        pytest.param("0, 30, x, 79, 104", "line 1: 'x' is not a number", id="word"),
        pytest.param("0, 30, nan, 79, 104", "'nan' is not a number", id="nan"),
        pytest.param("0, 30, 1e999, 79, 104", "'1e999' is not a number", id="infinite"),
    ],
)
def test_ark_refusals(text: str, said: str) -> None:
    with pytest.raises(AnnotationError) as caught:
        parse_ark(text, "a.txt", CLASSES)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("name", "index"),
    [("helmet", 0), ("HELMET", 0), (" helmet ", 0), ("vest", 1), ("Vest", 1)],
)
def test_names_match_exactly_then_by_case(name: str, index: int) -> None:
    assert parse_voc(voc(name), "a.xml", CLASSES).rows == [(index, *HELMET[1:])]


def test_the_exact_name_goes_before_one_of_other_case() -> None:
    lookup = ClassLookup(["a", "A"])
    assert (lookup.index_of("a"), lookup.index_of("A")) == (0, 1)


def test_voc_leaves_out_unknown_classes_and_missing_boxes() -> None:
    objects = parse_voc(voc("glove", more="<object><name>vest</name></object>"), "a.xml", CLASSES)
    assert (objects.rows, objects.unknown_classes, objects.without_box) == ([], ["glove"], 1)
    assert parse_voc(b"<annotation></annotation>", "a.xml", CLASSES).rows == []


@pytest.mark.parametrize(
    ("content", "said"),
    [
        pytest.param(b"<annotation>", "not a readable XML", id="cut-off"),
        pytest.param(
            b'<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><a>&x;</a>',
            "not a readable XML",
            id="external-entity",
        ),
        pytest.param(
            b'<!DOCTYPE a [<!ENTITY x "y"><!ENTITY z "&x;&x;">]><a>&z;</a>',
            "not a readable XML",
            id="entity-expansion",
        ),
        pytest.param(
            voc().replace(b"<xmax>79</xmax>", b"<xmax>79px</xmax>"),
            "a.xml object 1 xmax: '79px' is not a number",
            id="word-for-a-corner",
        ),
        pytest.param(voc().replace(b"<ymin>41</ymin>", b""), "object 1 ymin", id="corner-missing"),
        pytest.param(voc(""), "object 1: it has no name", id="no-name"),
    ],
)
def test_voc_refusals(content: bytes, said: str) -> None:
    with pytest.raises(AnnotationError) as caught:
        parse_voc(content, "a.xml", CLASSES)
    assert said in str(caught.value)


def test_coco_boxes_are_exact_and_joined_by_base_name() -> None:
    document = CocoFile(coco(), "c.json", CLASSES)
    assert document.objects_of("/in/assets/3f/3f.jpg").rows == [HELMET]
    assert document.objects_of("empty.jpg").rows == []


def test_coco_category_names_go_before_ids() -> None:
    """Files from elsewhere count from 1; the platform's ids are class indices and agree."""
    shifted = [{"id": 0, "name": "glove"}, {"id": 1, "name": "helmet"}]
    record = {"image_id": 1, "bbox": [30, 41, 50, 64]}
    document = coco(
        categories=shifted,
        annotations=[{**record, "category_id": 1}, {**record, "category_id": 0}],
    )
    objects = CocoFile(document, "c.json", CLASSES).objects_of("3f.jpg")
    assert (objects.rows, objects.unknown_classes) == ([HELMET], ["glove"])
    nameless = CocoFile(coco(categories=[]), "c.json", CLASSES)
    assert nameless.objects_of("3f.jpg").rows == [HELMET]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        pytest.param(b"{", "not a readable JSON", id="cut-off"),
        pytest.param(b"[1]", "images is not a list", id="no-mapping"),
        pytest.param(coco(images=3), "images is not a list", id="images-no-list"),
        pytest.param(coco(annotations=[3]), "annotations is not a list", id="annotation-no-record"),
        pytest.param(coco(images=[]), "does not list the image 3f.jpg", id="image-not-listed"),
        pytest.param(
            coco(images=[{"id": 1, "file_name": "a/3f.jpg"}, {"id": 2, "file_name": "b/3f.jpg"}]),
            "several images called 3f.jpg",
            id="name-twice",
        ),
        pytest.param(
            coco(categories=[], annotations=[{"id": 5, "image_id": 1, "category_id": 2}]),
            "annotation 5 of 3f.jpg: class index 2 is not a whole number from 0 to 1",
            id="class-out-of-range",
        ),
        pytest.param(
            coco(annotations=[{"id": 5, "image_id": 1, "category_id": [0]}]),
            "category_id None",
            id="class-no-number",
        ),
        pytest.param(
            coco(annotations=[{"id": 5, "image_id": 1, "category_id": 0, "bbox": [1, 2, 3]}]),
            "bbox [1, 2, 3] is not",
            id="three-numbers",
        ),
        pytest.param(
            coco(annotations=[{"image_id": 1, "category_id": 0, "bbox": [1, 2, None, 4]}]),
            "bbox [1, 2, None, 4] is not",
            id="null-number",
        ),
        pytest.param(
            coco(annotations=[{"image_id": 1, "category_id": 0}]), "bbox None", id="no-bbox"
        ),
    ],
)
def test_coco_refusals(content: bytes, said: str) -> None:
    with pytest.raises(AnnotationError) as caught:
        CocoFile(content, "c.json", CLASSES).objects_of("3f.jpg")
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        pytest.param("a.txt", b"0, 30, 41, 79, 104", id="ark"),
        pytest.param("a.xml", voc(), id="voc"),
        pytest.param("a.json", coco(), id="coco"),
        pytest.param("a.txt", b"\xef\xbb\xbf0, 30, 41, 79, 104", id="ark-with-byte-order-mark"),
        pytest.param("a.txt", voc(), id="voc-called-txt"),
        pytest.param("a", b"\n  " + coco(), id="coco-without-suffix"),
        pytest.param("a.xml", b"0, 30, 41, 79, 104", id="ark-called-xml"),
        pytest.param("a.xml", voc().decode().encode("utf-16"), id="voc-in-utf-16"),
    ],
)
def test_formats_are_recognised_by_content(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    reader = AnnotationReader(["helmet", "vest"])
    assert reader.read(str(tmp_path / name), "/x/3f.jpg").rows == [HELMET]


def test_reader_names_what_it_cannot_read(tmp_path: Path) -> None:
    reader = AnnotationReader(["helmet"])
    (tmp_path / "noise.txt").write_bytes(b"\x00\xff\xfe\x80 ")
    (tmp_path / "bad.json").write_bytes(b"{")
    for name in ("missing.txt", "missing.json", "noise.txt", "bad.json", "bad.json"):
        with pytest.raises(AnnotationError, match=name):
            reader.read(str(tmp_path / name), "3f.jpg")


def test_a_coco_document_is_parsed_once_also_by_threads(tmp_path: Path) -> None:
    path = tmp_path / "c.json"
    path.write_bytes(coco())
    reader = AnnotationReader(["helmet", "vest"])
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: reader.read(str(path), "3f.jpg").rows, range(64)))
    assert found == [[HELMET]] * 64
    path.unlink()
    assert reader.read(str(path), "3f.jpg").rows == [HELMET]


BOX = st.tuples(st.integers(0, 1), *[st.integers(-50, 5000)] * 4)


@settings(max_examples=30, deadline=None)
@given(st.lists(BOX, max_size=5), st.sampled_from([", ", ",", "\t", "  "]))
def test_ark_text_there_and_back(boxes: list[tuple[int, ...]], separator: str) -> None:
    text = "\n".join(separator.join(map(str, box)) for box in boxes)
    rows = parse_ark(text, "a.txt", CLASSES).rows
    assert [(c, x1, y1, x2 - 1, y2 - 1) for c, x1, y1, x2, y2 in rows] == boxes


@settings(max_examples=40, deadline=None)
@given(st.text(max_size=40))
def test_any_text_is_read_or_refused(text: str) -> None:
    said = "a.txt line"
    try:
        parse_ark(text, "a.txt", CLASSES)
    except AnnotationError as error:
        said = str(error)
    assert "a.txt line" in said
