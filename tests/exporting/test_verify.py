"""Parity check: tolerances, shapes and images, and what is beyond rounding."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from exporting.verify import (
    FLOAT16,
    FLOAT32,
    ParityError,
    detector_run,
    max_difference,
    parity_shapes,
    within,
)


def rows_of(images: np.ndarray) -> np.ndarray:
    """Two boxes an image, 100 pixels long, with scores of 0.5."""
    rows = np.full((len(images), 2, 8), 0.5, np.float32)
    rows[..., :4] = 50, 50, 100, 20
    return rows


@pytest.mark.parametrize(
    ("tolerance", "column", "change", "close"),
    [
        pytest.param(FLOAT32, 0, 0.14, True, id="0.05 px and a thousandth of the longer side"),
        pytest.param(FLOAT32, 0, 0.16, False, id="beyond it"),
        pytest.param(FLOAT32, 3, 0.14, True, id="also in the shorter side"),
        pytest.param(FLOAT32, 4, 0.0009, True, id="a score within a thousandth"),
        pytest.param(FLOAT32, 7, 0.0011, False, id="a class score beyond it"),
        pytest.param(FLOAT16, 2, 3.9, True, id="half: 2 px and two hundredths"),
        pytest.param(FLOAT16, 2, 4.1, False, id="half: beyond it"),
        pytest.param(FLOAT16, 4, 0.021, False, id="half: a score"),
        pytest.param(FLOAT16, 4, np.nan, False, id="no number"),
        pytest.param(FLOAT16, 0, np.inf, False, id="overflow"),
    ],
)
def test_tolerance(tolerance, column, change, close):
    expected = rows_of(np.zeros((2, 3, 8, 8)))
    found = expected.copy()
    found[-1, -1, column] += change
    assert within(tolerance, found, expected) is close
    assert not within(tolerance, expected[:1], expected), "rows are missing"


def test_the_largest_difference_and_the_shape_where_it_is_too_large(small, plain):
    network = detector_run(small, torch.device("cpu"))
    assert max_difference(network, small, plain) == 0
    near = max_difference(lambda images: network(images) + 1e-4, small, plain)
    assert near == pytest.approx(1e-4, rel=0.2)

    def wrong_in_batches(images):
        return network(images) + (len(images) > 1)

    with pytest.raises(ParityError, match=r"2 image\(s\) of 4x10"):
        max_difference(wrong_in_batches, small, plain)


def test_shapes(plain):
    assert parity_shapes(32, plain) == ((1, 128, 128), (2, 64, 160))
    fixed = dataclasses.replace(plain, dynamic=False, batch_size=4, size=(64, 96))
    assert parity_shapes(32, fixed) == ((4, 64, 96),)
    asked = dataclasses.replace(plain, batch_size=4)
    assert parity_shapes(32, asked)[-1] == (4, 128, 128)


def test_images_are_drawn_and_noise_only_for_float32(small, plain):
    network, seen = detector_run(small, torch.device("cpu")), []

    def record(images):
        seen.append(images.copy())
        return network(images)

    max_difference(record, small, dataclasses.replace(plain, dynamic=False, batch_size=2))
    assert [images.shape for images in seen] == [(2, 3, 128, 128)] * 2
    assert all(images.dtype == np.float32 for images in seen)
    assert all(images.min() >= 0 and images.max() <= 1 for images in seen)
    assert not np.array_equal(seen[0][0], seen[0][1])
    max_difference(record, small, dataclasses.replace(plain, half=True))
    assert len(seen) == 4
