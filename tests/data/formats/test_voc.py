"""Pascal VOC: objects as in the tree of the document, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data.formats.base import AnnotationError, read_labelled_folder
from data.formats.voc import VocObject, parse_voc, voc_objects
from tests.data.formats.annotation_example import CLASSES, HELMET, rows_of, voc
from utils.errors import TaskError

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
    assert voc_objects(content, "a.xml") == [VocObject(*one) for one in expected]


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


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two images with annotations, in no split."""
    for name in ("Annotations", "JPEGImages", "ImageSets/Main", "SegmentationClass"):
        (tmp_path / name).mkdir(parents=True)
    for stem, label in (("b", "cat"), ("a", "dog")):
        Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / "JPEGImages" / f"{stem}.png")
        content = document(f"<name>{label}</name>{BOX}", "<name>tail</name>")
        (tmp_path / "Annotations" / f"{stem}.xml").write_bytes(content)
    (tmp_path / "SegmentationClass" / "a.png").write_bytes(b"")
    return tmp_path


def test_a_labelled_folder(folder: Path) -> None:
    """Corners as given, classes in order of appearance, parts without a box counted."""
    found = read_labelled_folder(folder)
    assert (found.format_name, found.class_names) == ("voc", ("dog", "cat"))
    assert [image.path.name for image in found.images[""]] == ["a.png", "b.png"]
    assert found.images[""][0].objects == (("dog", 1, 2, 3, 4),)
    assert found.remarks == {"VOC objects without a complete bndbox were left out": 2}


def test_image_sets_make_splits(folder: Path) -> None:
    (folder / "ImageSets" / "Main" / "train.txt").write_text("a  1\n")
    (folder / "ImageSets" / "Main" / "val.txt").write_text("b -1\ngone\n")
    (folder / "Annotations" / "gone.xml").write_bytes(document())
    found = read_labelled_folder(folder)
    names = {split: [image.path.stem for image in images] for split, images in found.images.items()}
    assert names == {"train": ["a"], "val": ["b"]}
    assert found.remarks["listed images do not exist and were left out"] == 1
    (folder / "ImageSets" / "Main" / "test.txt").write_text("nowhere\n")
    with pytest.raises(TaskError, match="lists 'nowhere' for test"):
        read_labelled_folder(folder)
