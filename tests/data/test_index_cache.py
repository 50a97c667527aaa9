"""A reading that is kept is the reading itself, and is found again for the same files only."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from data.index_cache import KeptReading, key_of, load_reading, save_reading

from data import dataset_index as labels
from data import index_cache
from data.read_dataset import read_dataset
from data.report import DataReport

NAMES = ("cat", "dog")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of the test's own, for data sets of any size."""
    kept = tmp_path / "cache"
    monkeypatch.setattr(index_cache, "cache_folder", lambda: kept)
    monkeypatch.setattr(labels, "LEAST", 1)
    return kept


@pytest.fixture
def index_file(tmp_path: Path, drawn_files: list[Path]) -> Path:
    """Three images, one of them a background; a box clipped, one of another class, one twice."""
    voc = (
        "<annotation>"
        "<object><name>cat</name><bndbox><xmin>0</xmin><ymin>0</ymin><xmax>999</xmax><ymax>9</ymax>"
        "</bndbox></object>"
        "<object><name>cow</name><bndbox><xmin>0</xmin><ymin>0</ymin><xmax>9</xmax><ymax>9</ymax>"
        "</bndbox></object></annotation>"
    )
    (tmp_path / "0.xml").write_text(voc, "utf-8")
    (tmp_path / "1.txt").write_text("1, 2, 3, 9, 9\n1, 2, 3, 9, 9\n", "utf-8")
    lines = [f"{drawn_files[0]}\t0.xml", f"{drawn_files[1]}\t1.txt", f"{drawn_files[2]}"]
    (tmp_path / "index.tsv").write_text("\n".join(lines), "utf-8")
    return tmp_path / "index.tsv"


@pytest.fixture
def drawn_files(tmp_path: Path) -> list[Path]:
    cv2 = pytest.importorskip("cv2")
    files = [tmp_path / f"{number}.png" for number in range(3)]
    for file in files:
        cv2.imwrite(str(file), np.zeros((20, 30, 3), np.uint8))
    return files


def reading_of(index_file: Path, **changes: object) -> str:
    settings = {"root": index_file.parent, "max_bad_fraction": 0.5, **changes}
    index, report = read_dataset(index_file, NAMES, **settings)  # type: ignore[arg-type]
    arrays = (index.sizes, index.boxes, index.classes, index.offsets)
    kinds = [(array.dtype, array.tolist()) for array in arrays]
    return repr((index.paths, index.class_names, kinds, report))


def test_the_second_reading_equals_the_first(
    folder: Path, index_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = reading_of(index_file)
    assert len(list(folder.glob("*.npz"))) == 1

    def fail(*arguments: object) -> None:
        raise AssertionError("read again")

    monkeypatch.setattr(labels, "_examine", fail)
    assert reading_of(index_file) == first


@pytest.mark.parametrize("change", ["content", "time", "class", "image"])
def test_a_change_is_seen(
    folder: Path, index_file: Path, drawn_files: list[Path], change: str
) -> None:
    reading_of(index_file)
    label = index_file.with_name("1.txt")
    if change == "content":
        label.write_text("0, 2, 3, 9, 9\n1, 2, 3, 9, 9\n", "utf-8")
    elif change == "time":
        os.utime(label, ns=(1, 1))
    elif change == "class":
        read_dataset(index_file, ("dog", "cat"), root=index_file.parent, max_bad_fraction=0)
    else:
        drawn_files[2].write_bytes(drawn_files[1].read_bytes())
    fresh = reading_of(index_file)
    assert len(list(folder.glob("*.npz"))) == 2
    if change == "content":
        assert "[[0.0, 0.0, 30.0, 10.0], [2.0, 3.0, 10.0, 10.0], [2.0, 3.0, 10.0, 10.0]]" in fresh


def test_a_data_set_with_bad_files_is_read_each_time(folder: Path, index_file: Path) -> None:
    index_file.with_name("1.txt").write_text("nonsense", "utf-8")
    assert reading_of(index_file) == reading_of(index_file)
    assert not folder.exists()


def test_a_damaged_file_is_no_obstacle(folder: Path, index_file: Path) -> None:
    first = reading_of(index_file)
    next(folder.glob("*.npz")).write_bytes(b"PK\3\4 nothing")
    assert reading_of(index_file) == first


@pytest.mark.skipif(os.name != "posix", reason="rights of files")
def test_a_folder_that_others_may_write_to_is_not_used(folder: Path, index_file: Path) -> None:
    folder.mkdir()
    folder.chmod(0o777)
    reading_of(index_file)
    assert not list(folder.iterdir())


def test_a_small_data_set_is_not_kept(
    folder: Path, index_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(labels, "LEAST", index_cache.LEAST)
    reading_of(index_file)
    assert not folder.exists()


def test_few_are_kept(tmp_path: Path) -> None:
    reading = KeptReading.of(
        DataReport("x"),
        paths=["a"],
        sizes=np.ones((1, 2), np.int32),
        boxes=np.ones((2, 4), np.float32),
        classes=np.ones(2, np.int32),
        per_image=np.array([2]),
    )
    for number in range(index_cache.MOST_FILES + 3):
        save_reading(f"{number:064x}", reading, tmp_path / "kept")
        os.utime(tmp_path / "kept" / f"{number:064x}.npz", ns=(number, number))
    names = sorted(path.stem for path in (tmp_path / "kept").iterdir())
    assert len(names) <= index_cache.MOST_FILES + 1
    assert f"{number:064x}" in names
    assert load_reading(f"{0:064x}", tmp_path / "kept") is None


def test_a_missing_file_has_no_key(tmp_path: Path) -> None:
    assert key_of([str(tmp_path / "none.jpg")]) is None
    assert key_of(["a\0b"]) is None
