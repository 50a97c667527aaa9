"""Streams of decoded images: in order, a little ahead, nothing left behind."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from data import stream as image_stream
from data.dataset_index import DatasetIndex
from data.stream import stream_images
from tests.data.conftest import SIZES


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

    def read(path: str, *, upright: bool) -> np.ndarray:
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


def test_only_the_positions_asked_for_and_those_late(index: DatasetIndex) -> None:
    asked = []

    def positions() -> Iterator[int]:
        for position in (1, 5, 4):
            asked.append(position)
            yield position

    stream = stream_images(index.paths, workers=1, prefetch=1, positions=positions())
    assert next(stream).position == 1
    assert asked == [1]
    assert [(image.position, image.path) for image in stream] == [
        (5, index.paths[5]),
        (4, index.paths[4]),
    ]
