from __future__ import annotations

import errno
import os
import re
import shutil
import subprocess
import threading
from pathlib import Path

import pytest

from utils.atomic import fitting_name, replace_file, scratch_beside, write_text


def test_the_new_content_replaces_the_old(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "result.yaml"
    write_text(path, "old")
    write_text(path, "new ü")
    assert path.read_text("utf-8") == "new ü"
    assert list(path.parent.iterdir()) == [path]


def test_a_failure_leaves_the_old_content_and_no_litter(tmp_path: Path) -> None:
    path = tmp_path / "result.yaml"
    write_text(path, "old")

    def fail_half_way() -> None:
        with replace_file(path) as temporary:
            temporary.write_text("half")
            assert path.read_text() == "old"
            raise RuntimeError("other")

    with pytest.raises(RuntimeError, match="other"):
        fail_half_way()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.fixture(scope="module")
def gone() -> int:
    """The number of a process that has ended."""
    with subprocess.Popen(["true"]) as process:
        return process.pid


def test_what_a_killed_process_left_is_removed_and_a_living_one_s_is_not(
    tmp_path: Path, gone: int
) -> None:
    dead, alive = (tmp_path / f".a.txt.{n}.tmp" for n in (gone, os.getppid()))
    other = tmp_path / f".b.txt.{gone}.tmp"
    for path in (dead, alive, other):
        path.write_text("half")
    write_text(tmp_path / "a.txt", "whole")
    assert sorted(tmp_path.iterdir()) == sorted([tmp_path / "a.txt", alive, other])


@pytest.mark.parametrize("name", ["x" * 255, "图" * 85, "\udcff" * 255], ids=ascii)
def test_a_name_as_long_as_a_name_can_be(tmp_path: Path, name: str, gone: int) -> None:
    with replace_file(tmp_path / name) as temporary:
        temporary.write_text("half")
        left = temporary.with_name(re.sub(r"\d+\.\d+\.tmp$", f"{gone}.{gone}.tmp", temporary.name))
    left.write_text("half")
    write_text(tmp_path / name, "whole \udcff")
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_bytes() == b"whole \xff"


def test_names_are_cut_where_they_are_too_long_and_stay_apart(tmp_path: Path) -> None:
    assert fitting_name(tmp_path, "x" * 250, ".onnx") == "x" * 250 + ".onnx"
    cut = [fitting_name(tmp_path / "deep", "图" * 84 + end, ".onnx") for end in "ab"]
    assert len(set(cut)) == 2
    assert all(len(os.fsencode(name)) <= 255 and name.endswith(".onnx") for name in cut)


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "full"), RuntimeError("unexpected pos")])
def test_a_full_disk_is_told_with_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=4096))
    with pytest.raises(OSError, match=r"best\.pt") as caught, replace_file(tmp_path / "best.pt"):
        raise error
    assert caught.value.errno == errno.ENOSPC
    assert list(tmp_path.iterdir()) == []


def test_an_error_names_the_file_and_not_the_temporary_one(tmp_path: Path) -> None:
    (tmp_path / "a.txt").mkdir()
    with pytest.raises(IsADirectoryError) as caught:
        write_text(tmp_path / "a.txt", "text")
    assert caught.value.filename == str(tmp_path / "a.txt")


def test_a_scratch_folder_goes_and_so_does_one_that_a_killed_process_left(
    tmp_path: Path, gone: int
) -> None:
    for number in (gone, os.getpid()):  # a container gives the same number again
        left = tmp_path / f".best.onnx.parts.{number}.{number}.tmp"
        left.mkdir()
        (left / "half").write_text("half")
    with scratch_beside(tmp_path / "best.onnx") as folder:
        assert list(folder.iterdir()) == []
        (folder / "best.onnx").write_text("whole")
        with replace_file(tmp_path / "best.onnx") as temporary:
            (folder / "best.onnx").replace(temporary)
    assert [path.name for path in tmp_path.iterdir()] == ["best.onnx"]


def test_two_threads_may_write_one_file_at_once(tmp_path: Path) -> None:
    path, names = tmp_path / "a.txt", []

    def write() -> None:
        with replace_file(path) as temporary:
            names.append(temporary.name)
            temporary.write_text("second")

    with replace_file(path) as temporary:
        temporary.write_text("first")
        other = threading.Thread(target=write)
        other.start()
        other.join()
        assert path.read_text() == "second"
        assert names != [temporary.name]
    assert path.read_text() == "first"
    assert list(tmp_path.iterdir()) == [path]
