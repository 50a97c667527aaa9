"""Registry of mining algorithms: the `ALGORITHM` of every file `mining/mining_<name>.py`."""

from __future__ import annotations

import importlib
from collections.abc import Sequence

from inference.predictor import Predictor
from mining.scores import Algorithm, OnProgress, rank_images
from settings.detect import MINING_ALGORITHMS, MiningSettings


def _load(name: str) -> Algorithm:
    algorithm = importlib.import_module(f"{__package__}.mining_{name}").ALGORITHM
    assert isinstance(algorithm, Algorithm)
    return algorithm


ALGORITHMS = {name: _load(name) for name in MINING_ALGORITHMS}
"""By the choices of the setting `mining_algorithm`."""


def mine(
    predictor: Predictor | None,
    paths: Sequence[str],
    settings: MiningSettings,
    *,
    on_progress: OnProgress | None = None,
) -> list[tuple[str, float]]:
    """Return (path, score) of every candidate by the algorithm that the settings name.

    See `rank_images`.
    """
    algorithm = ALGORITHMS[settings.mining_algorithm]
    return rank_images(algorithm, predictor, paths, settings, on_progress=on_progress)
