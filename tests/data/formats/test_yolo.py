"""YOLO label files: boxes and polygons, where they lie, and what is refused."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from data.data_yaml import read_data_yaml
from data.formats.base import AnnotationError, AnnotationReader
from data.formats.yolo import label_of, parse_line
from data.read_dataset import read_yolo_split
from utils.errors import TaskError

NAMES = ("cat", "dog")
LABELS = {"a": "0 0.5 0.5 0.5 0.5\n1 0.25 0.25 0.5 0.5", "b": "", "c": "1 0 0 1 0 1 1"}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Three images of 64 x 32 with labels for two of them."""
    for stem, text in LABELS.items():
        image = tmp_path / "images" / "train" / f"{stem}.jpg"
        image.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(image), np.full((32, 64, 3), 90, np.uint8))
        if text:
            label = tmp_path / "labels" / "train" / f"{stem}.txt"
            label.parent.mkdir(parents=True, exist_ok=True)
            label.write_text(text)
    return tmp_path


def described(root: Path, text: str) -> Path:
    path = root / "data.yaml"
    path.write_text(text)
    return path


def test_a_split_becomes_arrays(root: Path) -> None:
    path = described(root, "train: images/train\nnames: [cat, dog]\n")
    index, report = read_yolo_split(read_data_yaml(path), "train", max_bad_fraction=0)
    assert index.class_names == NAMES
    assert np.diff(index.offsets).tolist() == [2, 0, 1]
    np.testing.assert_array_equal(index.boxes, [[16, 8, 48, 24], [0, 0, 32, 16], [0, 0, 64, 32]])
    assert index.classes.tolist() == [0, 1, 1]
    assert report.backgrounds == 1


def test_a_bad_label_file_costs_its_image_and_is_named(root: Path) -> None:
    (root / "labels/train/b.txt").write_text("0 0.5 0.5 0.1 0.1\n2 0.5 0.5 0.1 0.1")
    path = described(root, "train: images/train\nnames: [cat, dog]\n")
    index, report = read_yolo_split(read_data_yaml(path), "train", max_bad_fraction=0.5)
    assert len(index) == 2
    assert "b.txt:2: class 2 is outside 0..1" in report.bad_annotations.examples[0]
    with pytest.raises(TaskError, match="max_bad_fraction allows 0"):
        read_yolo_split(read_data_yaml(path), "train", max_bad_fraction=0)


@pytest.mark.parametrize(
    ("image", "label"),
    [
        pytest.param("images/a.jpg", "labels/a.txt", id="images to labels"),
        pytest.param("images/x/images/a.jpg", "images/x/labels/a.txt", id="the last one"),
        pytest.param("photographs/a.jpg", "photographs/a.txt", id="beside the image"),
    ],
)
def test_where_a_label_lies(image: str, label: str, tmp_path: Path) -> None:
    assert label_of(tmp_path / image) is None
    (tmp_path / label).parent.mkdir(parents=True)
    (tmp_path / label).write_text("")
    assert label_of(tmp_path / image) == tmp_path / label


@pytest.mark.parametrize(
    ("line", "corners"),
    [
        pytest.param("1 0.5 0.5 0.2 0.4", [0.4, 0.3, 0.6, 0.7], id="box"),
        pytest.param("1 0.5 0.5 0.2 0.4 0.9", [0.4, 0.3, 0.6, 0.7], id="box with confidence"),
        pytest.param("1 0.1 0.2 0.5 0.3 0.4 0.9", [0.1, 0.2, 0.5, 0.9], id="polygon"),
        pytest.param("1 .6 .6 .65 .6 .65 .65 .6 .65", [0.6, 0.6, 0.65, 0.65], id="small polygon"),
    ],
)
def test_lines(line: str, corners: list[float]) -> None:
    index, found = parse_line(line, "a.txt:1")
    assert index == 1
    np.testing.assert_allclose(found, corners)


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        pytest.param("cat 0.5 0.5 0.2 0.4", "holds a word", id="word"),
        pytest.param("0 0.5 nan 0.2 0.4", "makes no sense", id="not a number"),
        pytest.param("0.5 0.5 0.5 0.2 0.4", "makes no sense", id="half a class"),
        pytest.param("0 0.5 0.5", "neither a box nor a polygon", id="too few"),
        pytest.param("0 1 1 1 1 1 1 1", "neither a box nor a polygon", id="odd polygon"),
        pytest.param("0 32 16 10 10", "not in fractions of the image's size", id="pixels"),
        pytest.param("0 0.5 0.5 0.2 -0.2", "not in fractions", id="negative"),
        pytest.param("0 3 4 30 4 30 20", "not in fractions", id="polygon in pixels"),
        pytest.param(
            "0 .5 .5 .1 .1 .48 .48 .52 .48 .5 .5 .48 .53 .52 .53", "keypoints", id="keypoints"
        ),
        pytest.param("0 .5 .5 .5 .5 .4 .42 .6 .42 .5 .52 .42 .62 .58 .62", "keypoints", id="face"),
        pytest.param("0 .5 .5 .4 .4 -1 -1 -1 -1", "keypoints", id="unseen keypoints"),
        pytest.param("0 .5 .5 .1 .1 .48 .48 2 .53 .53 0 .5 .5 1", "keypoints", id="visibility"),
    ],
)
def test_lines_that_make_no_sense(line: str, sentence: str) -> None:
    with pytest.raises(AnnotationError, match=sentence):
        parse_line(line, "a.txt:1")


def test_a_label_that_is_no_text(root: Path) -> None:
    (root / "labels/train/a.txt").write_bytes(b"0 .5 .5 .5 \xb0")
    reader = AnnotationReader(NAMES, "yolo")
    with pytest.raises(AnnotationError, match=r"a.txt: not UTF-8 text \(byte 0xb0 at position 11"):
        reader.read(str(root / "labels/train/a.txt"), str(root / "images/train/a.jpg"), (32, 64))


def test_box_and_key_points_of_a_pose_data_set(root: Path) -> None:
    (root / "labels/train/a.txt").write_text("1 .5 .5 .5 .5 .4 .4 2 .6 .6 1")
    path = described(root, "train: images/train\nnames: [cat, dog]\nkpt_shape: [2, 3]\n")
    index, _ = read_yolo_split(read_data_yaml(path), "train", max_bad_fraction=1)
    np.testing.assert_array_equal(index.boxes_of(0), [[16, 8, 48, 24]])
