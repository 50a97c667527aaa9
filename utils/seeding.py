"""Where random numbers come from: generators made of a seed and of what they are for."""

from __future__ import annotations

import random

import numpy as np
import torch

_WORD = 2**64


def numpy_generator(seed: int, *purpose: int) -> np.random.Generator:
    """Generator determined by the seed and any further integers, such as (epoch, image).

    Different purposes give independent streams, so a sample does not depend on who draws it.
    Negative integers are taken modulo 2^64.
    """
    # The count comes first because numpy takes [1, 2] and [1, 2, 0] for the same seed.
    return np.random.default_rng([len(purpose), *(value % _WORD for value in (seed, *purpose))])


def torch_generator(seed: int, *purpose: int) -> torch.Generator:
    """As numpy_generator, for torch on the CPU."""
    word = numpy_generator(seed, *purpose).integers(2**63, dtype=np.int64)
    return torch.Generator().manual_seed(int(word))


def seed_everything(seed: int) -> None:
    """Seed the global generators of Python, numpy and torch.

    Our own code asks the two functions above; this is for weight initialisation inside torch
    and for code of others that draws from the global generators.
    """
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed % _WORD)
