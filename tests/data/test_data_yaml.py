"""data.yaml in every form people have it, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from data.data_yaml import images_of, read_data_yaml
from utils.errors import Code, TaskError

NAMES = ("cat", "dog")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder with three files that are called images."""
    (tmp_path / "images" / "train").mkdir(parents=True)
    for stem in "abc":
        (tmp_path / "images" / "train" / f"{stem}.jpg").write_bytes(b"")
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
        pytest.param("names: [a]\ntrain: {a: b}\n", "train of", id="a mapping"),
    ],
)
def test_descriptions_that_make_no_sense(text: str, sentence: str, tmp_path: Path) -> None:
    with pytest.raises(TaskError) as caught:
        read_data_yaml(described(tmp_path, text))
    assert caught.value.code == Code.DATASET
    assert sentence in caught.value.sentence


def test_what_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(TaskError, match=r"gone\.yaml does not exist: name a data\.yaml"):
        read_data_yaml(tmp_path / "gone.yaml")
    with pytest.raises(TaskError, match=r"is a folder: name a data\.yaml"):
        read_data_yaml(tmp_path)


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
