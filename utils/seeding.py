"""Where random numbers come from: generators made of a seed and of what they are for."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

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
    """Seed the global generators of Python, numpy and torch: torch initialises weights by them."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed % _WORD)


def random_state() -> dict[str, object]:
    """Where torch's global random sequences stand: the CPU's, and each GPU's once one is in use."""
    on_gpus = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []
    return {"cpu": torch.get_rng_state(), "cuda": on_gpus}


def restore_random_state(state: Mapping[str, Any]) -> None:
    """Go on with the sequences of `random_state`, as far as this machine has the GPUs."""
    torch.set_rng_state(state["cpu"])
    for number, one in enumerate(state["cuda"][: torch.cuda.device_count()]):
        torch.cuda.set_rng_state(one, number)
