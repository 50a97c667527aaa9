"""data.yaml in every form people have it, label files, and what is refused."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from data.data_yaml import images_of, read_data_yaml
from data.formats.base import AnnotationError
from data.formats.yolo import YoloReader, label_of, parse_line
from data.read_dataset import read_yolo_split
from utils.errors import Code, TaskError

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


@pytest.mark.parametrize(
    "names", ["[cat, dog]", "{0: cat, 1: dog}", "{1: dog, 0: cat}", '\n  - cat\n  - "dog"']
)
def test_names_are_a_list_or_numbered(names: str, root: Path) -> None:
    path = described(root, f"train: images/train\nnames: {names}\nnc: 80\n")
    assert read_data_yaml(path).class_names == NAMES


@pytest.mark.parametrize(
    "train",
    [
        pytest.param("images/train", id="folder"),
        pytest.param("[images/train]", id="list of folders"),
        pytest.param("../images/train", id="a level too high, as services export it"),
        pytest.param("list.txt", id="text file"),
        pytest.param("[list.txt]", id="list of text files"),
        pytest.param("[images/train/a.jpg, images/train/b.jpg, images/train/c.jpg]", id="images"),
    ],
)
def test_every_form_of_a_split(train: str, root: Path) -> None:
    lines = ["images/train/a.jpg", "", "./images/train/b.jpg", str(root / "images/train/c.jpg")]
    (root / "list.txt").write_text("\n".join(lines))
    path = described(root, f"train: {train}\nnames: [cat, dog]\n")
    found = images_of(read_data_yaml(path), "train")
    assert [image.stem for image in found] == ["a", "b", "c"]


def test_path_is_relative_to_the_file_or_to_where_one_is(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(root)
    (root / "configs").mkdir()
    for place in (root, root / "configs"):
        path = described(place, "path: images\ntrain: train\nnames: [cat, dog]\n")
        assert len(images_of(read_data_yaml(path), "train")) == 3


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
    ("text", "sentence"),
    [
        pytest.param("train: images/train\n", "it must hold names", id="no names"),
        pytest.param("- a\n", "it must hold names", id="a list"),
        pytest.param("names: [", "no readable YAML", id="not YAML"),
        pytest.param("names: {0: a, 2: b}\n", "must be 0, 1, 2", id="a number missing"),
        pytest.param("names: {a: b}\n", "must be 0, 1, 2", id="no numbers"),
        pytest.param("names: [a, a]\n", "not unique", id="twice"),
        pytest.param("names: cat\n", "must be a list", id="one word"),
        pytest.param("names: [a]\ntrain: 3\n", "train of", id="a number for a folder"),
    ],
)
def test_descriptions_that_make_no_sense(text: str, sentence: str, tmp_path: Path) -> None:
    with pytest.raises(TaskError) as caught:
        read_data_yaml(described(tmp_path, text))
    assert caught.value.code == Code.DATASET
    assert sentence in caught.value.sentence


@pytest.mark.parametrize(
    ("name", "words"),
    [
        pytest.param("gone.yaml", "gone.yaml does not exist: name a data.yaml", id="missing"),
        pytest.param("", "is a folder: name a data.yaml .*make_task", id="folder"),
    ],
)
def test_what_is_no_file(name: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(TaskError, match=words):
        read_data_yaml(tmp_path / name)


def test_a_split_that_is_not_there(root: Path) -> None:
    description = read_data_yaml(described(root, "train: gone\nnames: [cat, dog]\n"))
    with pytest.raises(TaskError, match="names 'gone', which is not below"):
        images_of(description, "train")
    with pytest.raises(TaskError, match="names no test images"):
        images_of(description, "test")


def test_a_download_is_never_run(root: Path) -> None:
    text = "train: gone\nnames: [cat]\ndownload: |\n  open('ran', 'w').write('')\n"
    description = read_data_yaml(described(root, text))
    with pytest.raises(TaskError, match="the download that it offers is not done"):
        images_of(description, "train")
    assert not (root / "ran").exists()


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
    ],
)
def test_lines_that_make_no_sense(line: str, sentence: str) -> None:
    with pytest.raises(AnnotationError, match=sentence):
        parse_line(line, "a.txt:1")


def test_a_label_that_is_no_text(root: Path) -> None:
    (root / "labels/train/a.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(AnnotationError, match="cannot be read"):
        YoloReader(NAMES).read(str(root / "labels/train/a.txt"), str(root / "images/train/a.jpg"))
