"""Annotation files of any format: read once, class names matched.

That formats are recognised by content is among the cases of tests/reliability.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from data.formats.base import (
    FORMATS,
    Annotation,
    AnnotationError,
    AnnotationFile,
    AnnotationFormat,
    AnnotationReader,
    ClassLookup,
    formats,
    register,
)
from data.instances import Instances
from tests.data.formats.annotation_example import HELMET, coco, rows_of


def test_a_format_that_is_asked_for_is_not_guessed(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("0 0.5 0.5 0.5 0.5")
    reader = AnnotationReader(["helmet"], "yolo")
    annotation = reader.read(str(tmp_path / "a.txt"), str(tmp_path / "a.png"), (20, 10))
    assert rows_of(annotation) == [(0, 2.5, 5.0, 7.5, 15.0)]


@pytest.fixture
def registered() -> Iterator[None]:
    """A format of one line `x y` and a box of one pixel, registered for one test."""

    def open_points(content: bytes, path: str, classes: ClassLookup) -> AnnotationFile:
        x, y = map(int, content.split()[1:])
        instances = Instances.from_rows([(classes.require(0, path), x, y, x + 1, y + 1)])
        return lambda image, size: Annotation(instances)

    formats()
    register(AnnotationFormat("points", open_points, starts=(b"point",)))
    yield
    del FORMATS["points"]


@pytest.mark.usefixtures("registered")
def test_a_registered_format_is_read_like_the_others(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("point 3 4")
    annotation = AnnotationReader(["a"]).read(str(tmp_path / "a.txt"), "a.png")
    assert rows_of(annotation) == [(0, 3, 4, 4, 5)]


def test_a_bad_file_for_many_images_is_named_for_each(tmp_path: Path) -> None:
    reader = AnnotationReader(["helmet"])
    (tmp_path / "bad.json").write_bytes(b"{")
    for _ in range(2):
        with pytest.raises(AnnotationError, match=r"bad\.json"):
            reader.read(str(tmp_path / "bad.json"), "3f.jpg")


def test_a_file_for_many_images_is_parsed_once_also_by_threads(tmp_path: Path) -> None:
    path = tmp_path / "c.json"
    path.write_bytes(coco())
    reader = AnnotationReader(["helmet", "vest"])
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: rows_of(reader.read(str(path), "3f.jpg")), range(64)))
    assert found == [[HELMET]] * 64
    path.unlink()
    assert rows_of(reader.read(str(path), "3f.jpg")) == [HELMET]


@pytest.mark.parametrize(
    ("name", "index"),
    [("helmet", 0), ("HELMET", 0), (" helmet ", 0), ("vest", 1), ("VEST", 2), ("boat", None)],
)
def test_names_match_exactly_then_by_case(name: str, index: int | None) -> None:
    assert ClassLookup(["helmet", "Vest", "VEST"]).index_of(name) == index
