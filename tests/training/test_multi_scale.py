"""Sizes of training batches: which, how often, equal everywhere, and the resizing itself."""

from __future__ import annotations

from collections import Counter

import pytest
import torch

from tests.conftest import DEVICES
from training.multi_scale import MultiScale, resize, scaled_shape


@pytest.mark.parametrize(
    ("side", "stride", "least", "most"), [(640, 64, 320, 960), (128, 32, 64, 192)]
)
def test_sizes_cover_half_to_one_and_a_half(side: int, stride: int, least: int, most: int) -> None:
    """v7.0: whole numbers from S/2 up to but not including 1.5 S + stride, rounded down."""
    scale = MultiScale(side, stride, seed=0)
    drawn = Counter(scale.size(0, step) for step in range(4000))
    expected = range(least, most + 1, stride)
    assert sorted(drawn) == list(expected)
    # Every size stands for `stride` of the numbers: all equally likely.
    share = 4000 / len(expected)
    assert all(0.7 * share < count < 1.3 * share for count in drawn.values())


def test_no_size_below_two_strides() -> None:
    assert {MultiScale(64, 32, seed=0).size(0, step) for step in range(200)} == {64, 96}


def test_the_seed_decides() -> None:
    """Sizes of five steps of the second epoch, recorded: they are the same in every process."""
    scales = MultiScale(640, 32, seed=3), MultiScale(640, 32, seed=4)
    first, other = ([scale.size(1, step) for step in range(5)] for scale in scales)
    assert first == [384, 608, 800, 864, 480] != other


@pytest.mark.parametrize(
    ("shape", "longest", "expected"),
    [
        pytest.param((640, 640), 480, (480, 480), id="square"),
        pytest.param((384, 640), 480, (288, 480), id="288 = 9 strides"),
        pytest.param((384, 640), 352, (224, 352), id="211.2 goes up"),
        pytest.param((640, 224), 960, (960, 352), id="336 goes up"),
        pytest.param((640, 640), 640, (640, 640), id="as it is"),
    ],
)
def test_shapes_by_hand(shape: tuple[int, int], longest: int, expected: tuple[int, int]) -> None:
    assert scaled_shape(shape, longest, 32) == expected


@pytest.mark.parametrize("device", DEVICES)
def test_resizing_is_bilinear_between_pixel_middles(device: str) -> None:
    """A ramp stays a ramp: at twice the size, new column x lies at (x + 0.5) / 2 - 0.5."""
    scale = MultiScale(64, 32, seed=0)
    step = next(step for step in range(50) if scale.size(0, step) == 96)
    ramp = torch.arange(64.0, device=device).expand(2, 3, 64, 64)
    ramp = ramp.contiguous(memory_format=torch.channels_last)
    grown = resize(ramp, scale.shape((64, 64), 0, step))
    assert grown.shape == (2, 3, 96, 96)
    assert grown.device.type == device
    assert grown.is_contiguous(memory_format=torch.channels_last)
    where = ((torch.arange(96.0, device=device) + 0.5) * 64 / 96 - 0.5).clamp(0, 63)
    torch.testing.assert_close(grown, where.expand(2, 3, 96, 96))


def test_the_same_size_is_the_same_tensor() -> None:
    images = torch.rand(1, 3, 64, 64)
    assert resize(images, (64, 64)) is images
