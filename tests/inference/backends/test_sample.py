"""Images to try an engine on: from all over the list, readable ones, as the network sees them."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch

from inference.backends.sample import COUNT, TRIES, by_shape, sample_images, upper_half
from ops.letterbox import plan_letterbox


def plan(size):
    return plan_letterbox(size, (64, 64), minimal=True)


def written(folder, count, bad=()):
    """Pictures whose grey is their position; those at `bad` are none."""
    for position in range(count):
        path = folder / f"{position:03d}.png"
        if position in bad:
            path.write_text("no image")
        else:
            cv2.imwrite(str(path), np.full((32, 64, 3), position, np.uint8))
    return [str(path) for path in sorted(folder.iterdir())]


@pytest.mark.parametrize(
    ("count", "bad", "expected"),
    [
        (40, (), [0, 10, 20, 30]),
        (3, (), [0, 1, 2]),
        (8, (2, 4), [0, 6, 1, 3]),
        (2, (0, 1), []),
        (0, (), []),
    ],
    ids=["spread", "few", "some unreadable", "none readable", "no images"],
)
def test_which(tmp_path, count, bad, expected):
    found = sample_images(written(tmp_path, count, bad), plan)
    assert [round(float(one.mean()) * 255) for one in found] == expected
    assert len(found) <= COUNT


def test_no_more_than_so_many_are_opened(tmp_path):
    paths = written(tmp_path, TRIES + 4, bad=range(TRIES + 3))
    assert sample_images(paths[:TRIES] + paths, plan) == []


def test_as_the_network_sees_them(tmp_path):
    path = tmp_path / "red.png"
    cv2.imwrite(str(path), np.full((32, 64, 3), (0, 0, 255), np.uint8))
    (image,) = sample_images([str(path)], plan)
    assert image.shape == (3, 32, 64)
    assert image.dtype == torch.float32
    assert image[0].min() == 1
    assert image[1:].max() == 0


def test_batches_are_of_one_shape():
    shapes = [(3, 32, 64), (3, 64, 64), (3, 32, 64)]
    batches = by_shape([torch.full(shape, float(n)) for n, shape in enumerate(shapes)])
    assert [tuple(batch.shape) for batch in batches] == [(2, 3, 32, 64), (1, 3, 64, 64)]
    assert batches[0][:, 0, 0, 0].tolist() == [0, 2]


@pytest.mark.parametrize(("height", "expected"), [(96, 32), (128, 64), (32, 32)])
def test_a_part_of_another_shape(height, expected):
    assert upper_half(torch.zeros(3, height, 64), 32).shape == (3, expected, 64)
