"""What may be looked at: files in every form; nothing that needs a network or a camera."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

import pytest
from PIL import Image

from data.sources import (
    available_sample,
    check_data_available,
    find_images,
    find_sources,
    sample_paths,
)
from utils.errors import Code, TaskError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("b.jpg", "a.png", "deep/c.JPG", "notes.txt", "film.mp4"):
        (tmp_path / "data" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "data" / name).write_text("")
    (tmp_path / "data" / "list.txt").write_text("b.jpg\n\n./deep/c.JPG\n")
    return tmp_path / "data"


@pytest.mark.parametrize(
    ("source", "names"),
    [
        pytest.param("", ["a.png", "b.jpg", "c.JPG"], id="folder"),
        pytest.param("b.jpg", ["b.jpg"], id="file"),
        pytest.param("*.jpg", ["b.jpg"], id="pattern"),
        pytest.param("**/*.*", ["a.png", "b.jpg", "c.JPG"], id="pattern through folders"),
        pytest.param("list.txt", ["b.jpg", "c.JPG"], id="list"),
    ],
)
def test_sources(source: str, names: list[str], folder: Path) -> None:
    found, base = find_images(f"{folder}/{source}" if source else folder)
    assert [Path(path).name for path in found] == names
    assert all(Path(path).is_file() for path in found)
    assert base in (folder, Path())


def test_a_link_to_itself_is_no_file(folder: Path) -> None:
    (folder / "self.jpg").symlink_to("self.jpg")
    (folder / "deep" / "self").symlink_to("self")
    assert len(find_images(folder)[0]) == 3


def test_a_file_of_another_kind_is_refused_and_an_image_without_a_suffix_is_not(
    folder: Path,
) -> None:
    (folder / "x.py").write_text("print()")
    with pytest.raises(TaskError, match=r"x\.py is no image") as caught:
        find_images(folder / "x.py")
    assert caught.value.code == Code.IMAGE_FORMAT
    Image.new("RGB", (4, 4)).save(folder / "photo", "PNG")
    assert find_images(folder / "photo")[0] == [str(folder / "photo")]


def test_a_list_may_be_relative_to_where_one_is(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "list.txt").write_text("data/b.jpg\n")
    monkeypatch.chdir(folder.parent)
    assert [Path(p).resolve() for p in find_images("data/list.txt")[0]] == [folder / "b.jpg"]


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("0", "is the number of a camera: record a video file"),
        ("rtsp://host/media", r"record it first \(ffmpeg -i rtsp://host/media -t 60 clip.mp4\)"),
        ("https://host/a.jpg?b&c", r"download it first \(curl -LO 'https://host/a.jpg\?b&c'\)"),
        ("screen", "is a screen: save screenshots"),
        ("list.streams", "is a list of streams"),
        ("film.mp4", "has videos and no image .*: save frames of them as files"),
    ],
)
def test_what_is_no_image_file_is_refused(
    source: str, reason: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    with pytest.raises(TaskError, match=reason) as caught:
        find_images(source)
    assert caught.value.code == Code.DATASET


def test_videos_are_told_from_images(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    images, videos, base = find_sources(folder)
    assert [Path(path).name for path in images] == ["a.png", "b.jpg", "c.JPG"]
    assert (videos, base) == ([str(folder / "film.mp4")], folder)
    assert find_images(folder) == (images, folder)
    assert f"left out of {folder}: 1 videos, such as {folder}/film.mp4" in caplog.text
    (folder / "0").mkdir()
    (folder / "0" / "film.avi").touch()
    assert find_sources(folder / "0")[:2] == ([], [str(folder / "0/film.avi")])


def test_addresses_in_a_list_are_refused(folder: Path) -> None:
    (folder / "list.txt").write_text("b.jpg\nrtsp://host/media\n")
    with pytest.raises(TaskError, match="is an address"):
        find_images(folder / "list.txt")


@pytest.mark.parametrize(
    ("source", "words"),
    [
        pytest.param("empty", "empty holds no image: name", id="empty folder"),
        pytest.param("nothing/*.jpg", "holds no image: name", id="pattern"),
        pytest.param("gone", "gone does not exist: name", id="no folder"),
        pytest.param("gone.jpg", "gone.jpg does not exist: name", id="no file"),
    ],
)
def test_no_image_is_refused(source: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(TaskError, match=words):
        find_images(tmp_path / source)


@pytest.mark.parametrize(("count", "step"), [(0, 1), (64, 1), (65, 2), (1000, 16)])
def test_the_paths_looked_at_are_spread_over_all(count: int, step: int) -> None:
    paths = [str(number) for number in range(count)]
    assert sample_paths(paths) == paths[::step]


@pytest.mark.parametrize(("gone", "refused"), [(0, False), (5, False), (6, True), (10, True)])
def test_more_than_half_must_be_gone(tmp_path: Path, gone: int, refused: bool) -> None:
    paths = [tmp_path / f"{number}.png" for number in range(10)]
    for path in paths:
        path.write_bytes(b"x")
    watched = available_sample([*map(str, paths), str(tmp_path / "never.png")])
    assert watched == [str(path) for path in paths]
    for path in paths[:gone]:
        path.unlink()
    refusal = pytest.raises(TaskError, match=f"{gone} are gone") if refused else nullcontext()
    with refusal:
        check_data_available(watched, what="images")
    check_data_available([], what="images")
