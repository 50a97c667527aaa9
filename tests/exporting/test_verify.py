"""Close is close, and what is beyond rounding is noticed wherever it is."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from exporting.verify import (
    HALF,
    ROUNDING,
    Decoded,
    Disagreement,
    largest_difference,
    reference,
    shapes_to_try,
)

SHAPES = ((1, 8, 8), (2, 8, 16))


def rows_of(images: np.ndarray) -> np.ndarray:
    """Two boxes an image, 100 pixels long, with scores of 0.5."""
    rows = np.full((len(images), 2, 8), 0.5, np.float32)
    rows[..., :4] = 50, 50, 100, 20
    return rows


@pytest.mark.parametrize(
    ("tolerance", "column", "change", "noticed"),
    [
        pytest.param(ROUNDING, 0, 0.14, False, id="0.05 px and a thousandth of the longer side"),
        pytest.param(ROUNDING, 0, 0.16, True, id="beyond it"),
        pytest.param(ROUNDING, 3, 0.14, False, id="also in the shorter side"),
        pytest.param(ROUNDING, 4, 0.0009, False, id="a score within a thousandth"),
        pytest.param(ROUNDING, 7, 0.0011, True, id="a class score beyond it"),
        pytest.param(HALF, 2, 3.9, False, id="half: 2 px and two hundredths"),
        pytest.param(HALF, 2, 4.1, True, id="half: beyond it"),
        pytest.param(HALF, 4, 0.021, True, id="half: a score"),
        pytest.param(HALF, 4, np.nan, True, id="no number"),
        pytest.param(HALF, 0, np.inf, True, id="overflow"),
    ],
)
def test_tolerance(tolerance, column, change, noticed):
    def found(images):
        rows = rows_of(images)
        rows[-1, -1, column] += change
        return rows

    compare = {"channels": 3, "shapes": SHAPES, "tolerance": tolerance}
    if noticed:
        with pytest.raises(Disagreement, match=r"1 image\(s\) of 8x8"):
            largest_difference(found, rows_of, **compare)
    else:
        assert largest_difference(found, rows_of, **compare) == pytest.approx(change, rel=1e-3)


def test_rows_that_are_missing_are_noticed():
    with pytest.raises(Disagreement, match="2 image"):
        largest_difference(
            lambda images: rows_of(images)[:1],
            rows_of,
            channels=3,
            shapes=SHAPES,
            tolerance=ROUNDING,
        )


def test_shapes(plain):
    assert shapes_to_try(32, plain) == ((1, 128, 128), (2, 64, 160))
    fixed = dataclasses.replace(plain, dynamic=False, batch_size=4, size=(64, 96))
    assert shapes_to_try(32, fixed) == ((4, 64, 96),)
    asked = dataclasses.replace(plain, batch_size=4)
    assert shapes_to_try(32, asked)[-1] == (4, 128, 128)


def test_the_pictures_are_pictures():
    seen = []

    def look(images):
        seen.append(images.copy())
        return rows_of(images)

    largest_difference(look, look, channels=3, shapes=((2, 64, 96),), tolerance=ROUNDING)
    assert {images.shape for images in seen} == {(2, 3, 64, 96)}
    assert all(images.dtype == np.float32 for images in seen)
    assert all(images.min() >= 0 and images.max() <= 1 for images in seen)
    assert not np.array_equal(seen[0][0], seen[0][1])


def test_half_takes_and_gives_float32(small):
    module = Decoded(small, half=True)
    assert all(p.dtype == torch.float16 for p in module.parameters())
    images = np.random.default_rng(0).random((1, 3, 32, 32), dtype=np.float32)
    rows = module(torch.from_numpy(images))
    assert rows.dtype == torch.float32
    expected = reference(small, torch.device("cpu"))(images)
    np.testing.assert_allclose(rows.numpy(), expected, atol=0.1)
    assert not np.array_equal(rows.numpy(), expected)
    assert small.training
    assert next(small.parameters()).dtype == torch.float32
