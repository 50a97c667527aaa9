"""COCO documents: one for many images, odd values refused for their image only.

What is refused is among the cases of tests/reliability.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data.formats.base import AnnotationError, read_labelled_folder
from data.formats.coco import CocoFile
from tests.data.formats.annotation_example import CLASSES, HELMET, coco, rows_of
from utils.errors import TaskError


def test_boxes_are_exact_and_joined_by_base_name() -> None:
    document = CocoFile(coco(), "c.json", CLASSES)
    assert rows_of(document("/in/assets/3f/3f.jpg")) == [HELMET]
    assert rows_of(document("empty.jpg")) == []


def test_category_names_go_before_ids() -> None:
    """Files from elsewhere count from 1; the platform's ids are class indices and agree."""
    shifted = [{"id": 0, "name": "glove"}, {"id": 1, "name": "helmet"}, {"id": 2, "name": ""}]
    record = {"image_id": 1, "bbox": [30, 41, 50, 64]}
    document = coco(
        categories=shifted, annotations=[{**record, "category_id": 1}, {**record, "category_id": 0}]
    )
    annotation = CocoFile(document, "c.json", CLASSES)("3f.jpg")
    assert (rows_of(annotation), annotation.unknown_classes) == ([HELMET], ("glove",))
    nameless = CocoFile(coco(categories=[]), "c.json", CLASSES)
    assert rows_of(nameless("3f.jpg")) == [HELMET]


@pytest.mark.parametrize(
    ("content", "image"),
    [
        pytest.param(coco().replace(b'"area": 0', b'"area": NaN'), "3f.jpg", id="nan-beside"),
        pytest.param(coco().replace(b'"area"', b'"\\ud800"'), "3f.jpg", id="half-a-character"),
        pytest.param(coco().replace(b"3f.jpg", b"\\u00e9.jpg"), "\xe9.jpg", id="escaped-name"),
    ],
)
def test_odd_documents_are_read(content: bytes, image: str) -> None:
    assert rows_of(CocoFile(content, "c.json", CLASSES)(image)) == [HELMET]


@pytest.mark.parametrize("change", [{"category_id": [0]}, {"bbox": [10**400, 2, 3, 4]}])
def test_an_odd_value_concerns_its_image_only(change: dict[str, object]) -> None:
    odd = {"image_id": 2, "category_id": 0, "bbox": [1, 2, 3, 4]} | change
    good = {"image_id": 1, "category_id": 0, "bbox": [30, 41, 50, 64]}
    document = CocoFile(coco(annotations=[odd, good], categories=[]), "c.json", CLASSES)
    assert rows_of(document("3f.jpg")) == [HELMET]
    with pytest.raises(AnnotationError, match=r"c.json annotation None of empty.jpg"):
        document("empty.jpg")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two images, one of them with objects, in the split val."""
    (tmp_path / "images").mkdir()
    for name in ("a.png", "b.png"):
        Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / "images" / name)
    record = {"image_id": 1, "category_id": 7}
    document = {
        "images": [{"id": n, "file_name": f"{s}.png"} for n, s in enumerate("abc", start=1)],
        "categories": [{"id": 9, "name": "dog"}, {"id": 7, "name": "cat"}],
        "annotations": [{**record, "bbox": [1, 2, 3, 4.5]}, {**record, "iscrowd": 1}],
    }
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations" / "instances_val.json").write_text(json.dumps(document))
    (tmp_path / "meta.json").write_text("{}")
    return tmp_path


def test_a_labelled_folder(folder: Path) -> None:
    """Classes in order of their ids; crowd regions and images that are not there are counted."""
    found = read_labelled_folder(folder)
    assert (found.format_name, found.class_names) == ("coco", ("cat", "dog"))
    assert {split: len(images) for split, images in found.images.items()} == {"val": 2}
    first, second = found.images["val"]
    assert first == (folder / "images" / "a.png", (("cat", 1, 2, 4, 6.5),))
    assert second.objects == ()
    assert found.remarks.total() == 2
    alone = read_labelled_folder(folder / "annotations" / "instances_val.json")
    assert alone.class_names == found.class_names


@pytest.mark.parametrize(
    ("content", "said"),
    [
        pytest.param("{", "not a readable JSON", id="no-json"),
        pytest.param(coco(annotations=[{"bbox": 3}]).decode(), "no valid COCO", id="no-bbox"),
    ],
)
def test_a_malformed_document_is_refused(folder: Path, content: str, said: str) -> None:
    (folder / "meta.json").write_text(content)
    with pytest.raises(TaskError, match=said):
        read_labelled_folder(folder)
