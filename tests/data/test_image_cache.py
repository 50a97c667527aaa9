"""Pictures in memory equal pictures from files; bad ones are named and left out."""

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
from data.image_cache import available_memory, open_image_cache, resized_sizes
from data.instances import Instances

SIZES = [(48, 64), (20, 10), (33, 100), (64, 64)]


@pytest.fixture
def index(tmp_path: Path) -> DatasetIndex:
    """Four drawn images, image i with i boxes of class i."""
    paths = []
    for number, (height, width) in enumerate(SIZES):
        coarse = np.random.default_rng(number).integers(0, 256, (4, 4, 3), dtype=np.uint8)
        paths.append(str(tmp_path / f"{number}.png"))
        cv2.imwrite(paths[-1], cv2.resize(coarse, (width, height)))
    classes = np.repeat(np.arange(4), np.arange(4))
    boxes = np.tile([[1, 2, 9, 12]], (6, 1)) + classes[:, None]
    return DatasetIndex.build(paths, SIZES, Instances(boxes, classes), np.arange(4), "abcd")


@pytest.mark.parametrize(
    ("size", "side", "expected"),
    [
        ((480, 640), 320, (240, 320)),
        ((77, 50), 640, (640, 416)),
        ((303, 154), 640, (640, 325)),
        ((10, 20000), 640, (1, 640)),
        ((640, 640), 640, (640, 640)),
    ],
)
def test_resized_sizes(size: tuple[int, int], side: int, expected: tuple[int, int]) -> None:
    """By hand. Rounded: v7.0 cuts off, which makes some long sides short and thin images vanish."""
    np.testing.assert_array_equal(resized_sizes(np.array([size]), side), [expected])


def test_memory_equals_files(index: DatasetIndex) -> None:
    cached, bad = open_image_cache(index, 32, cache="ram", threads=2)
    plain, none = open_image_cache(index, 32, cache="none")
    assert bad == none == []
    assert cached.pixels is not None
    assert plain.pixels is None
    for position in range(4):
        picture = cached.image(position)
        assert picture is not None
        assert max(picture.shape) == 32
        assert picture.shape[:2] == plain.size(position)
        np.testing.assert_array_equal(picture, plain.image(position))


@pytest.mark.parametrize("where", ["ram", "disk"])
def test_bad_images_leave_the_cache(
    index: DatasetIndex, caplog: pytest.LogCaptureFixture, where: str
) -> None:
    Path(index.paths[1]).write_bytes(b"broken")
    cv2.imwrite(index.paths[2], np.zeros((5, 5, 3), np.uint8))
    whole = [open_image_cache(index, 32, cache="none")[0].image(position) for position in (0, 3)]
    with caplog.at_level(logging.WARNING):
        cache, bad = open_image_cache(index, 32, cache=where, threads=2)
    assert [failure.position for failure in bad] == [1, 2]
    assert "not a readable image file" in bad[0].reason
    assert "its size is now (5, 5)" in bad[1].reason
    assert caplog.text.count("image left out") == 2
    assert cache.index.paths == (index.paths[0], index.paths[3])
    for position, expected in enumerate(whole):
        np.testing.assert_array_equal(cache.image(position), expected)
    np.testing.assert_array_equal(cache.index.classes_of(1), [3, 3, 3])


def test_bad_image_without_cache_is_named_once(
    index: DatasetIndex, caplog: pytest.LogCaptureFixture
) -> None:
    Path(index.paths[1]).unlink()
    cache, _ = open_image_cache(index, 32, cache="none")
    with caplog.at_level(logging.WARNING):
        assert cache.image(1) is None
        assert cache.image(1) is None
    assert caplog.text.count("file not found") == 1


def test_what_does_not_fit_stays_on_disk(
    index: DatasetIndex, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(image_cache, "available_memory", lambda: 10_000)
    cache, _ = open_image_cache(index, 64, cache="ram")
    assert cache.pixels is None
    assert "read from disk each time" in caplog.text


def test_disk_equals_memory_and_leaves_nothing(index: DatasetIndex, tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    folder.mkdir()
    memory, _ = open_image_cache(index, 64, cache="ram")
    cache, bad = open_image_cache(index, 64, cache="disk", folder=str(folder))
    assert bad == []
    assert f"{folder}/" in Path("/proc/self/maps").read_text()  # that is where they lie
    assert list(folder.iterdir()) == []  # nobody else sees the file, and nobody has to remove it
    np.testing.assert_array_equal(cache.pixels, memory.pixels)


def test_a_disk_that_is_too_small_is_not_used(
    index: DatasetIndex, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    usage = SimpleNamespace(free=30_000)  # of 64 x 48, 64 x 32, 21 x 64, 64 x 64 pixels: 31,680
    monkeypatch.setattr(image_cache.shutil, "disk_usage", lambda folder: usage)
    cache, bad = open_image_cache(index, 64, cache="disk")
    assert cache.pixels is None
    assert bad == []
    assert "read from their files each time" in caplog.text
    assert "cache_dir" in caplog.text
    assert cache.image(0) is not None


def test_a_folder_that_cannot_be_written_is_not_used(
    index: DatasetIndex, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cache, _ = open_image_cache(index, 64, cache="disk", folder=str(tmp_path / "missing"))
    assert cache.pixels is None
    assert "No such file or directory" in caplog.text


def test_space_that_runs_out_is_noticed_at_once(
    index: DatasetIndex, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(image_cache.os, "posix_fallocate", full)
    cache, _ = open_image_cache(index, 64, cache="disk")
    assert cache.pixels is None
    assert "No space left on device" in caplog.text


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
    cache, bad = open_image_cache(index.subset([]), 32, cache=where)
    assert (len(cache.index), cache.sizes.shape, bad) == (0, (0, 2), [])
