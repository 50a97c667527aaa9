"""Streams of decoded images: in order, a little ahead, nothing left behind."""

from __future__ import annotations

import threading
from pathlib import Path

import cv2
import numpy as np
import pytest

from utils import image_stream
from utils.image_stream import stream_images
from utils.labels import DatasetIndex

SIZES = [(48, 64), (64, 48), (40, 64), (64, 64), (20, 50), (64, 30), (64, 64)]


@pytest.fixture
def index(tmp_path: Path) -> DatasetIndex:
    """Seven drawn images with a white rectangle on black each, which is its box; the last bare."""
    paths, boxes = [], []
    for number, (height, width) in enumerate(SIZES):
        image = np.zeros((height, width, 3), np.uint8)
        box = (4, 2, width // 2, height - 6)
        if number < len(SIZES) - 1:
            image[box[1] : box[3], box[0] : box[2]] = 255
            boxes.append(box)
        paths.append(str(tmp_path / f"{number}.png"))
        cv2.imwrite(paths[-1], image)
    counts = [1] * len(boxes) + [0]
    return DatasetIndex.build(paths, SIZES, boxes, np.arange(len(boxes)) % 3, counts, "abc")


@pytest.mark.parametrize("workers", [-1, 1, 3])
def test_in_order_with_reasons(index: DatasetIndex, workers: int) -> None:
    Path(index.paths[1]).write_bytes(b"broken")
    images = list(stream_images(index.paths, workers=workers, prefetch=2))
    assert [image.position for image in images] == list(range(7))
    assert [image.path for image in images] == list(index.paths)
    assert images[1].image is None
    assert images[1].error == "not a readable image file"
    shapes = [image.image.shape[:2] for image in images if image.image is not None]
    assert shapes == [size for number, size in enumerate(SIZES) if number != 1]


def test_runs_at_most_prefetch_ahead(index: DatasetIndex, monkeypatch: pytest.MonkeyPatch) -> None:
    begun = []

    def read(path: str) -> np.ndarray:
        begun.append(path)
        return np.zeros((1, 1, 3), np.uint8)

    monkeypatch.setattr(image_stream, "read_image", read)
    stream = stream_images(["x"] * 50, workers=2, prefetch=4)
    for taken in range(1, 6):
        next(stream)
        assert len(begun) <= taken + 4
    stream.close()
    assert len(begun) <= 9


def test_no_threads_stay_behind(index: DatasetIndex) -> None:
    before = threading.active_count()
    stream = stream_images(index.paths, workers=2)
    next(stream)
    stream.close()
    assert threading.active_count() == before


def test_nothing_to_read() -> None:
    assert list(stream_images([])) == []
