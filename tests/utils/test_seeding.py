"""Equal seeds and purposes give equal numbers, different ones different numbers."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch

from utils.seeding import numpy_generator, seed_everything, torch_generator


def first(*key: int) -> int:
    return int(numpy_generator(*key).integers(2**62))


@pytest.mark.parametrize("key", [(0,), (1, 2, 3), (-1, 5), (2**70, 0)])
def test_repeatable(key: tuple[int, ...]) -> None:
    draws = [torch.rand(3, generator=torch_generator(*key)) for _ in range(2)]
    assert torch.equal(*draws)


def test_every_purpose_has_its_own_stream() -> None:
    keys = [(0,), (1,), (0, 0), (0, 1), (1, 0), (0, 0, 0), (0, 1, 0), (-1,)]
    assert len({first(*key) for key in keys}) == len(keys)


def test_seed_everything_seeds_the_global_generators() -> None:
    def draw() -> tuple[float, float, float]:
        seed_everything(7)
        return random.random(), float(np.random.rand()), float(torch.rand(()))

    assert draw() == draw()
    seed_everything(-3)
