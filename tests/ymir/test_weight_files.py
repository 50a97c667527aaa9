"""Where weight files are looked for, and what a download must be told."""

from __future__ import annotations

from pathlib import Path

import pytest

from utils.errors import Code, TaskError
from ymir.weight_files import (
    IMAGE_FOLDER,
    OFFICIAL,
    check_download,
    file_of_model,
    find_weights,
    weight_folders,
)

DIGEST = "0123456789abcdef" * 4


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("yolov5s", "yolov5s.pt"),
        ("s", "yolov5s.pt"),
        ("x6", "yolov5x6.pt"),
        ("yolov5x6", "yolov5x6.pt"),
        ("models/yolov5n.yaml", "yolov5n.pt"),
        ("/data/mine.yaml", "mine.pt"),
        ("mine.yml", "mine.pt"),
    ],
)
def test_the_file_of_a_model(model: str, name: str) -> None:
    assert file_of_model(model) == name


def test_the_official_files() -> None:
    assert len(OFFICIAL) == 10
    assert all(file_of_model(name.removesuffix(".pt")) == name for name in OFFICIAL)


def test_folders_and_their_order(tmp_path: Path) -> None:
    assert weight_folders("") == (IMAGE_FOLDER,)
    assert weight_folders(str(tmp_path)) == (tmp_path, IMAGE_FOLDER)
    assert weight_folders(str(tmp_path / "new"), may_be_made=True)[0] == tmp_path / "new"
    (tmp_path / "file").write_text("")
    for name in ("new", "file"):
        with pytest.raises(TaskError, match=r"weights_dir is .* a folder that exists") as caught:
            weight_folders(str(tmp_path / name), may_be_made=name == "file")
        assert caught.value.code is Code.CONFIG


def test_finding(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    for path in (first / "a.pt", second / "a.pt", second / "b.PT", second / "c.onnx"):
        path.parent.mkdir(exist_ok=True)
        path.write_text("")
    (first / "b.PT").mkdir()
    (tmp_path / "outside.pt").write_text("")
    folders = (tmp_path / "gone", first, second)
    assert find_weights("a.pt", folders) == first / "a.pt"
    assert find_weights("b.PT", folders) == second / "b.PT"
    for name in ("c.onnx", "d.pt", "../outside.pt", str(tmp_path / "outside.pt"), ""):
        assert find_weights(name, folders) is None


def test_a_download_is_told_what_to_expect() -> None:
    assert check_download("m6", f" {DIGEST.upper()} ") == ("yolov5m6.pt", DIGEST)


@pytest.mark.parametrize(
    ("model", "digest", "words"),
    [
        ("yolov5s", "", "64 hexadecimal digits"),
        ("yolov5s", DIGEST[:-1], "64 hexadecimal digits"),
        ("yolov5s", DIGEST + "0", "64 hexadecimal digits"),
        ("yolov5s", DIGEST[:-1] + "g", "64 hexadecimal digits"),
        ("mine.yaml", DIGEST, "must be one of yolov5l, "),
        ("yolov3", DIGEST, "no file for the model 'yolov3'"),
    ],
)
def test_downloads_that_are_refused(model: str, digest: str, words: str) -> None:
    with pytest.raises(TaskError, match=words) as caught:
        check_download(model, digest)
    assert caught.value.code is Code.CONFIG
