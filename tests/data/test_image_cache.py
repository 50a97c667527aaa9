"""Images in memory equal images from files; bad ones are named and left out."""

from __future__ import annotations

import errno
import logging
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from data import image_cache
from data.dataset_index import DatasetIndex
from data.image_cache import available_memory, open_image_cache


@pytest.mark.parametrize("where", ["ram", "disk"])
def test_kept_images_equal_files(index: DatasetIndex, where: str) -> None:
    cached = open_image_cache(index, 32, cache=where)
    plain = open_image_cache(index, 32, cache="none")
    assert cached.pixels is not None
    assert plain.pixels is None
    for position in range(len(index)):
        source = cached.image(position)
        assert source is not None
        assert max(source.shape) == 32
        assert source.shape[:2] == plain.size(position)
        np.testing.assert_array_equal(source, plain.image(position))


@pytest.mark.parametrize("where", ["ram", "disk"])
def test_bad_images_leave_the_cache(
    index: DatasetIndex, caplog: pytest.LogCaptureFixture, where: str
) -> None:
    Path(index.paths[1]).write_bytes(b"broken")
    cv2.imwrite(index.paths[2], np.zeros((5, 5, 3), np.uint8))
    left = [0, 3, 4, 5, 6]
    whole = [open_image_cache(index, 32, cache="none").image(position) for position in left]
    with caplog.at_level(logging.WARNING):
        cache = open_image_cache(index, 32, cache=where)
    assert caplog.text.count("image left out") == 2
    assert f"{index.paths[1]}: not a readable image file" in caplog.text
    assert "its size is now (5, 5)" in caplog.text
    assert cache.index.paths == tuple(index.paths[position] for position in left)
    for position, expected in enumerate(whole):
        np.testing.assert_array_equal(cache.image(position), expected)
    assert cache.index.classes.tolist() == [0, 0, 1, 2]


def test_what_does_not_fit_stays_on_disk(
    index: DatasetIndex, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(image_cache, "available_memory", lambda: 10_000)
    cache = open_image_cache(index, 64, cache="ram")
    assert cache.pixels is None
    assert "read from disk each time" in caplog.text


def test_the_file_on_disk_leaves_nothing(index: DatasetIndex, tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    folder.mkdir()
    cache = open_image_cache(index, 64, cache="disk", folder=str(folder))
    assert cache.pixels is not None
    assert f"{folder}/" in Path("/proc/self/maps").read_text()  # that is where they lie
    assert list(folder.iterdir()) == []  # nobody else sees the file, and nobody has to remove it


def full(*_: int) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize(
    ("target", "replacement", "said"),
    [
        ("shutil.disk_usage", lambda folder: SimpleNamespace(free=60_000), "0.0 GiB are free"),
        ("tempfile.gettempdir", lambda: "/missing", "No such file or directory"),
        ("os.posix_fallocate", full, "No space left on device"),
    ],
    ids=["too small", "no folder", "full"],
)
def test_a_disk_that_cannot_hold_the_images_is_not_used(
    index: DatasetIndex,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    target: str,
    replacement: object,
    said: str,
) -> None:
    """They take 68,736 bytes."""
    monkeypatch.setattr(target, replacement)
    cache = open_image_cache(index, 64, cache="disk")
    assert cache.pixels is None
    assert said in caplog.text
    assert "cache_dir" in caplog.text
    assert cache.image(0) is not None


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        pytest.param({}, None, id="nobody tells"),
        pytest.param({"proc/meminfo": "MemTotal: 9 kB\nMemAvailable: 5 kB\n"}, 5120, id="machine"),
        pytest.param(
            {
                "proc/meminfo": "MemAvailable: 5 kB\n",
                "sys/fs/cgroup/memory.max": "4000\n",
                "sys/fs/cgroup/memory.current": "3000\n",
                "sys/fs/cgroup/memory.stat": "anon 5\ninactive_file 500\n",
            },
            1500,
            id="container",
        ),
        pytest.param(
            {
                "proc/meminfo": "MemAvailable: 5 kB\n",
                "sys/fs/cgroup/memory.max": "max\n",
                "sys/fs/cgroup/memory.current": "3000\n",
            },
            5120,
            id="container without limit",
        ),
        pytest.param(
            {
                "sys/fs/cgroup/memory/memory.limit_in_bytes": "4000\n",
                "sys/fs/cgroup/memory/memory.usage_in_bytes": "1000\n",
            },
            3000,
            id="older container",
        ),
    ],
)
def test_available_memory(tmp_path: Path, files: dict[str, str], expected: int | None) -> None:
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    assert available_memory(tmp_path) == expected


@pytest.mark.parametrize("where", ["ram", "disk", "none"])
def test_an_empty_data_set_has_an_empty_cache(index: DatasetIndex, where: str) -> None:
    cache = open_image_cache(index.subset([]), 32, cache=where)
    assert (len(cache.index), cache.sizes.shape) == (0, (0, 2))
