"""The few filters that v7.0 takes from the optional package albumentations, seeded per sample."""

from __future__ import annotations

import importlib
import random
from types import ModuleType

import numpy as np

from data.images import Pixels
from utils.environment import disable_update_checks
from utils.errors import Code, TaskError

PROBABILITY = 0.01
_FILTERS = ("Blur", "MedianBlur", "ToGray", "CLAHE")


class PixelFilters:
    """Blur, median blur, grey and local contrast, each on one sample in a hundred.

    v7.0's set names three more with probability 0. None moves anything, so boxes stay. Raises
    TaskError(CONFIG) where the package is missing or too old.
    """

    def __init__(self) -> None:
        package = _albumentations()
        filters = [getattr(package, name)(p=PROBABILITY) for name in _FILTERS]
        self._filters = package.Compose(filters)

    def __call__(self, image: Pixels, seed: int) -> Pixels:
        """A BGR image [h, w, 3] after the filters; the same for the same seed."""
        # One stream for all: the package's own way to seed gives each filter the same numbers, so
        # that all of them would act on the same samples.
        self._filters.set_random_state(np.random.default_rng(seed), random.Random(seed))
        return np.asarray(self._filters(image=image)["image"], np.uint8)


def _albumentations() -> ModuleType:
    disable_update_checks()
    try:
        package = importlib.import_module("albumentations")
    except ImportError as error:
        raise TaskError(
            Code.CONFIG,
            "the setting albumentations needs the package albumentations, which is not installed "
            f"({error}): install albumentations>=2.0, or set albumentations to false.",
        ) from error
    if not hasattr(package.Compose, "set_random_state"):
        raise TaskError(
            Code.CONFIG,
            f"the setting albumentations needs albumentations>=2.0, found {package.__version__}: "
            "install a newer one, or set albumentations to false.",
        )
    return package
