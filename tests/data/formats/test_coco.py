"""A COCO document record by record and as a whole: the same labels, odd ones included."""

from __future__ import annotations

import json
import tracemalloc

import pytest

from data.formats.base import AnnotationError
from data.formats.coco import CocoLabels, _labels_as_a_whole, coco_labels

ANNOTATIONS = [
    {"id": 1, "image_id": 7, "category_id": 0, "bbox": [1, 2, 3, 4.5]},
    {"id": 2, "image_id": "b", "category_id": 1, "bbox": [1, 2, 3, 4]},
    {"id": "x", "image_id": 7, "category_id": 0, "bbox": [1, 2, 3, 4]},
    {"id": 4, "image_id": 7, "category_id": 2**70, "bbox": [1, 2, 3, 4]},
    {"id": 5, "image_id": 7, "category_id": True, "bbox": [1, 2, 3, float("nan")]},
    {"id": 6, "image_id": 7, "bbox": [10**400, 2, 3, 4]},
    {"id": 7, "image_id": 7, "category_id": 0, "bbox": "1 2 3 4"},
    {"id": 8, "image_id": 99, "category_id": 0, "bbox": [0, 0, 1, 1]},
    {"id": 9, "category_id": 0},
    {"id": 10, "image_id": 7, "category_id": 0, "bbox": [5, 6, 7, 8]},
]
DOCUMENT = {
    "annotations": ANNOTATIONS,
    "images": [
        {"id": 7, "file_name": "x/a.jpg"},
        {"id": "b", "file_name": "b.jpg"},
        {"id": 3, "file_name": "c.jpg"},
        {"id": 4, "file_name": "y/c.jpg"},
        {"file_name": "none.jpg"},
    ],
    "categories": [{"id": 0, "name": "cat"}, {"id": 1, "name": ""}],
}


def shown(labels: CocoLabels) -> str:
    found = {name: labels.annotations_of(name) for name in labels.image_ids}
    return repr((found, labels.image_ids, labels.ambiguous, labels.category_names))


def test_both_ways_give_the_same() -> None:
    content = json.dumps(DOCUMENT).encode()
    assert shown(coco_labels(content, "c")) == shown(_labels_as_a_whole(content, "c"))


def test_by_hand() -> None:
    labels = coco_labels(json.dumps(DOCUMENT).encode(), "c")
    found = labels.annotations_of("a.jpg")
    assert [one[0] for one in found] == [1, "x", 4, 5, 6, 7, 10]
    assert found[0] == (1, 0, [1.0, 2.0, 3.0, 4.5])
    assert found[1] == ("x", 0, [1, 2, 3, 4])
    assert found[2][1] == 2**70
    assert found[4] == (6, None, [10**400, 2, 3, 4])
    assert [one[0] for one in labels.annotations_of("b.jpg")] == [2]
    assert [one[0] for one in labels.annotations_of("none.jpg")] == [9]
    assert labels.annotations_of("c.jpg") == []
    assert labels.ambiguous == {"c.jpg"}
    assert labels.category_names == {0: "cat"}


def test_a_key_given_twice_counts_the_last_time_as_in_json() -> None:
    content = b'{"images": [{"id": 1, "file_name": "a"}], "images": [{"id": 2, "file_name": "b"}]}'
    assert coco_labels(content, "c").image_ids == {"b": 2}


@pytest.mark.parametrize("content", [b"{", b"[]", b"{}", b'{"images": {}}', b'{"images": [1]}'])
def test_no_document(content: bytes) -> None:
    with pytest.raises(AnnotationError, match="c: not a"):
        coco_labels(content, "c")


def test_a_large_document_takes_little_beside_itself() -> None:
    one = {"id": 123456, "image_id": 7, "category_id": 0, "bbox": [1.25, 2.5, 30.0, 40.0]}
    many = [{**one, "id": 100_000 + number, "segmentation": {}} for number in range(30_000)]
    content = json.dumps({"images": [{"id": 7, "file_name": "a"}], "annotations": many}).encode()
    tracemalloc.start()
    labels = coco_labels(content, "c")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(labels.annotations_of("a")) == 30_000
    # Arrays of 56 bytes an annotation, grown by an eighth at a time, and a window of text.
    assert peak < 12e6
