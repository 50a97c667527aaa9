"""Annotation files of the three formats: odd, wrong, hostile or huge."""

from __future__ import annotations

import json
from pathlib import Path

from tests.reliability.case import Case, Ending, Meet, skipped, taken
from tests.reliability.reading import read, write_good

BOX = [[2.0, 3.0, 12.0, 13.0]]
"""What 2, 3, 11, 12 with inclusive ends comes to."""


def note(content: bytes, name: str = "case.txt") -> Meet:
    """The annotation of an image beside a good one."""

    def meet(folder: Path) -> Ending:
        write_good(folder)
        write_good(folder, "case")
        (folder / name).write_bytes(content)
        return read(folder, f"good.png\tgood.txt\ncase.png\t{name}\n".encode())

    return meet


def voc(body: str = "", *, name: str = "helmet", box: str = "") -> bytes:
    """A VOC document of one object, and `body` after it."""
    box = box or "<xmin>2</xmin><ymin>3</ymin><xmax>11</xmax><ymax>12</ymax>"
    return (
        f"<annotation><object><name>{name}</name><bndbox>{box}</bndbox></object>{body}</annotation>"
    ).encode()


def corners(*values: object) -> str:
    """The sides of a VOC box."""
    sides = ("xmin", "ymin", "xmax", "ymax")
    return "".join(f"<{s}>{v}</{s}>" for s, v in zip(sides, values, strict=True))


def coco(bbox: object = (2, 3, 10, 10), **changes: object) -> bytes:
    """A COCO document of one image and one box."""
    document: dict[str, object] = {
        "images": [{"id": 1, "file_name": "case.png"}],
        "categories": [{"id": 0, "name": "helmet"}],
        "annotations": [{"id": 7, "image_id": 1, "category_id": 0, "bbox": bbox}],
    }
    return json.dumps({**document, **changes}).encode()


def record(**changes: object) -> list[dict[str, object]]:
    """One COCO annotation."""
    return [{"id": 7, "image_id": 1, "category_id": 0, "bbox": [2, 3, 10, 10], **changes}]


def xml(content: bytes) -> Meet:
    """A VOC file."""
    return note(content, "case.xml")


def js(content: bytes) -> Meet:
    """A COCO file."""
    return note(content, "case.json")


def declared(encoding: str) -> bytes:
    """The declaration of an encoding."""
    return f'<?xml version="1.0" encoding="{encoding}"?>'.encode()


def category(number: object) -> Meet:
    """A COCO file without categories, whose box has this one."""
    return js(coco(categories=[], annotations=record(category_id=number)))


BOMB = (
    b'<!DOCTYPE a [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;&a;&a;"><!ENTITY c "&b;&b;&b;&b;&b;">]>'
    b"<annotation>&c;</annotation>"
)

ARK: tuple[Case, ...] = (
    taken("CRLF line ends, blank lines", note(b"0, 2, 3, 11, 12\r\n\r\n"), case_boxes=BOX),
    taken("a byte order mark", note(b"\xef\xbb\xbf0, 2, 3, 11, 12"), case_boxes=BOX),
    taken("tabs and blanks for commas", note(b"0\t2  3 11\t12"), case_boxes=BOX),
    taken("fractions", note(b"0, 2.5, 3.5, 10.5, 11.5"), case_boxes=[[2.5, 3.5, 11.5, 12.5]]),
    taken(
        "a box partly outside: clipped",
        note(b"0, -5, -5, 900, 900"),
        "1 box reached over the edge",
        case_boxes=[[0.0, 0.0, 40.0, 24.0]],
    ),
    taken(
        "a box wholly outside: left out",
        note(b"0, 100, 100, 120, 120"),
        "1 box without area left out",
        case_boxes=[],
    ),
    taken(
        "an inverted box: left out",
        note(b"0, 11, 12, 2, 3"),
        "1 box without area left out",
        case_boxes=[],
    ),
    taken(
        "a box given twice: once",
        note(b"0, 2, 3, 11, 12\n0, 2, 3, 11, 12"),
        "1 box given twice, taken once",
        case_boxes=BOX,
    ),
    taken("one box for two classes", note(b"0, 2, 3, 11, 12\n1, 2, 3, 11, 12"), case_boxes=BOX * 2),
    taken("a rotated box: upright", note(b"0, 2, 3, 11, 12, 1, 0.5"), "1 rotated", case_boxes=BOX),
    skipped("a class index too large", note(b"2, 2, 3, 11, 12"), "line 1: class index 2 is not"),
    skipped("a negative class index", note(b"-1, 2, 3, 11, 12"), "class index -1 is not a whole"),
    skipped("a class name", note(b"helmet, 2, 3, 11, 12"), "line 1: 'helmet' is not a number"),
    skipped("four numbers", note(b"0, 2, 3, 11"), "line 1: '0, 2, 3, 11' has 4 numbers"),
    skipped("not a number", note(b"0, 2, 3, nan, 12"), "'nan' is not a number"),
    skipped("beyond every number", note(b"0, 2, 3, 1e999, 12"), "'1e999' is not a number"),
    skipped("not UTF-8", note(b"\xe9\xe8, 2, 3, 11, 12"), "neither ark text, XML nor JSON"),
    skipped("an image in its place", note(b"\x89PNG\r\n\x1a\n" * 20), "neither ark text, XML"),
    skipped(
        "a million boxes",
        note(b"0, 1, 1, 9, 9\n" * 1_000_000),
        "more than 100000 objects in one image",
    ),
    skipped("more than 64 MiB", note(b" " * (64 * 2**20 + 1)), "larger than 64 MiB, for one image"),
)
VOC: tuple[Case, ...] = (
    taken("a plain one", xml(voc()), case_boxes=BOX),
    taken("the suffix of ark", note(voc()), case_boxes=BOX),
    taken("UTF-16", xml(voc().decode().encode("utf-16")), case_boxes=BOX),
    taken("a byte order mark, CRLF", xml(b"\xef\xbb\xbf\r\n" + voc()), case_boxes=BOX),
    taken("declared Latin-1", xml(declared("latin-1") + voc("<cks>\xe9</cks>")), case_boxes=BOX),
    taken("fractions", xml(voc(box=corners(2.5, 3, 10.5, 12))), case_boxes=[[2.5, 3, 11.5, 13]]),
    taken("a negative box: clipped", xml(voc(box=corners(-9, 3, 11, 12))), "over the edge"),
    taken("an inverted box: left out", xml(voc(box=corners(9, 3, 2, 12))), "1 box without area"),
    taken("an unknown class: left out", xml(voc(name="boat")), "left out: boat (1)", case_boxes=[]),
    taken("a class in capitals", xml(voc(name=" HELMET ")), case_boxes=BOX),
    taken(
        "an object without a box: left out",
        xml(voc("<object><name>vest</name></object>")),
        "1 box without area left out",
        case_boxes=BOX,
    ),
    taken("a wrong size: the image's counts", xml(voc("<size><width>0</width></size>")), boxes=2),
    taken("no object: a background", xml(b"<annotation/>"), backgrounds=1, images=2),
    taken("200,000 nested elements", xml(voc("<a>" * 200_000 + "</a>" * 200_000)), case_boxes=BOX),
    skipped("entity bomb", xml(BOMB), "not a readable XML document", "EntitiesForbidden"),
    skipped(
        "an entity of another file",
        xml(b'<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><annotation>&x;</annotation>'),
        *("not a readable XML document", "EntitiesForbidden"),
    ),
    skipped("cut off", xml(voc()[:60]), "not a readable XML document"),
    skipped(
        "not UTF-8, undeclared", xml(voc().replace(b"helmet", b"\xe9")), "not UTF-8 text (byte 0xe9"
    ),
    skipped("an unknown encoding", xml(declared("martian") + voc()), "unknown encoding"),
    skipped("no name", xml(voc(name="")), "object 1: it has no name"),
    skipped("a side missing", xml(voc(box="<xmin>2</xmin>")), "object 1 ymin: '' is not a number"),
    skipped("a word for a side", xml(voc(box=corners("2px", 3, 11, 12))), "xmin: '2px' is not"),
    skipped(
        "100,001 objects",
        xml(b"<a>" + b"<object/>" * 100_001 + b"</a>"),
        "more than 100000 objects",
    ),
)
COCO: tuple[Case, ...] = (
    taken("a plain one", js(coco()), case_boxes=BOX),
    taken("no suffix", note(coco(), "case"), case_boxes=BOX),
    taken("a byte order mark", js(b"\xef\xbb\xbf" + coco()), case_boxes=BOX),
    taken("UTF-16", js(coco().decode().encode("utf-16")), case_boxes=BOX),
    taken("no annotations: a background", js(coco(annotations=[])), backgrounds=1, images=2),
    taken("a file name with a folder", js(coco(images=[{"id": 1, "file_name": "x/case.png"}]))),
    taken("a negative width: left out", js(coco((9, 3, -4, 5))), "1 box without area left out"),
    taken("partly outside: clipped", js(coco((-3, -3, 10, 90))), "1 box reached over the edge"),
    taken("given twice: once", js(coco(annotations=record() * 2)), "1 box given twice"),
    taken(
        "an unknown category: left out",
        js(coco(categories=[{"id": 0, "name": "boat"}])),
        "left out: boat (1)",
        case_boxes=[],
    ),
    skipped(
        "annotations of other images only",
        js(coco(annotations=record(image_id=9))),
        "no annotation belongs to an image that it lists",
    ),
    skipped("cut off", js(coco()[:50]), "not a readable JSON document"),
    skipped("a list", js(b"[1, 2]"), "not a COCO document (images is not a list of records)"),
    skipped("nested a million deep", js(b"[" * 1_000_000), "not a readable JSON document"),
    skipped("not UTF-8", js(coco()[:-1] + b', "k": "\xe9"}'), "not a readable JSON document"),
    skipped("the image is not listed", js(coco(images=[])), "does not list the image case.png"),
    skipped(
        "the same base name twice",
        js(coco(images=[{"id": n, "file_name": f"{n}/case.png"} for n in (1, 2)])),
        "lists several images called case.png",
    ),
    skipped("no bbox", js(coco(None)), "annotation 7 of case.png: bbox None is not [x, y, width"),
    skipped("a text for the bbox", js(coco("1234")), "bbox 1234 is not [x, y, width, height]"),
    skipped("NaN in the bbox", js(coco([2, 3, float("nan"), 1])), "bbox [2, 3, nan, 1] is not"),
    skipped("a category beyond every number", category(10**400), "class index 1000000000"),
    skipped(
        "a category that is true or false", category(True), "category_id True is not a whole number"
    ),
    skipped(
        "100,001 objects", js(coco(annotations=record() * 100_001)), "more than 100000 objects"
    ),
)
