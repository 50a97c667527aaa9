"""Registry of mining algorithms: the `ALGORITHM` of every file `mining/mining_<name>.py`."""

from __future__ import annotations

import importlib

from mining.scores import Algorithm
from settings.detect import MINING_ALGORITHMS


def _load(name: str) -> Algorithm:
    algorithm = importlib.import_module(f"{__package__}.mining_{name}").ALGORITHM
    assert isinstance(algorithm, Algorithm)
    return algorithm


ALGORITHMS = {name: _load(name) for name in MINING_ALGORITHMS}
"""By the choices of the setting `mining_algorithm`."""
