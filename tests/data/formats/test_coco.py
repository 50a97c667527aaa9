"""COCO documents: one for many images, odd values refused for their image only.

What is refused is among the cases of tests/reliability.
"""

from __future__ import annotations

import pytest

from data.formats.base import AnnotationError
from data.formats.coco import CocoFile
from tests.data.formats.annotation_example import CLASSES, HELMET, coco, rows_of


def test_boxes_are_exact_and_joined_by_base_name() -> None:
    document = CocoFile(coco(), "c.json", CLASSES)
    assert rows_of(document("/in/assets/3f/3f.jpg", SIZE)) == [HELMET]
    assert rows_of(document("empty.jpg", SIZE)) == []


def test_category_names_go_before_ids() -> None:
    """Files from elsewhere count from 1; the platform's ids are class indices and agree."""
    shifted = [{"id": 0, "name": "glove"}, {"id": 1, "name": "helmet"}, {"id": 2, "name": ""}]
    record = {"image_id": 1, "bbox": [30, 41, 50, 64]}
    document = coco(
        categories=shifted, annotations=[{**record, "category_id": 1}, {**record, "category_id": 0}]
    )
    annotation = CocoFile(document, "c.json", CLASSES)("3f.jpg", SIZE)
    assert (rows_of(annotation), annotation.unknown_classes) == ([HELMET], ("glove",))
    nameless = CocoFile(coco(categories=[]), "c.json", CLASSES)
    assert rows_of(nameless("3f.jpg", SIZE)) == [HELMET]


@pytest.mark.parametrize(
    ("content", "image"),
    [
        pytest.param(coco().replace(b'"area": 0', b'"area": NaN'), "3f.jpg", id="nan-beside"),
        pytest.param(coco().replace(b'"area"', b'"\\ud800"'), "3f.jpg", id="half-a-character"),
        pytest.param(coco().replace(b"3f.jpg", b"\\u00e9.jpg"), "\xe9.jpg", id="escaped-name"),
    ],
)
def test_odd_documents_are_read(content: bytes, image: str) -> None:
    assert rows_of(CocoFile(content, "c.json", CLASSES)(image, SIZE)) == [HELMET]


SIZE = (0, 0)


@pytest.mark.parametrize("change", [{"category_id": [0]}, {"bbox": [10**400, 2, 3, 4]}])
def test_an_odd_value_concerns_its_image_only(change: dict[str, object]) -> None:
    odd = {"image_id": 2, "category_id": 0, "bbox": [1, 2, 3, 4]} | change
    good = {"image_id": 1, "category_id": 0, "bbox": [30, 41, 50, 64]}
    document = CocoFile(coco(annotations=[odd, good], categories=[]), "c.json", CLASSES)
    assert rows_of(document("3f.jpg", SIZE)) == [HELMET]
    with pytest.raises(AnnotationError, match=r"c.json annotation None of empty.jpg"):
        document("empty.jpg", SIZE)
