"""The optional filters: as often as in v7.0, repeatable, and refused in words where missing."""

from __future__ import annotations

import importlib
from types import SimpleNamespace

import numpy as np
import pytest
from data.pixel_filters import PROBABILITY

from data.augmentations import PixelFilters
from utils.errors import Code, TaskError

IMAGE = np.random.default_rng(0).integers(0, 256, (48, 48, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def filters() -> PixelFilters:
    pytest.importorskip("albumentations", reason="the package albumentations is optional")
    return PixelFilters()


def changed(filters: PixelFilters, seeds: range) -> list[int]:
    return [seed for seed in seeds if (filters(IMAGE, seed) != IMAGE).any()]


def test_about_four_in_a_hundred_are_changed(filters: PixelFilters) -> None:
    """Four filters of 1% each that do not depend on one another: 1 - 0.99^4 = 3.9%."""
    share = len(changed(filters, range(3000))) / 3000
    assert 0.75 * 4 * PROBABILITY < share < 1.25 * 4 * PROBABILITY


def test_a_seed_decides(filters: PixelFilters) -> None:
    seeds = changed(filters, range(200))
    assert seeds
    other = PixelFilters()
    for seed in [*seeds, 0, 1]:
        first = filters(IMAGE, seed)
        assert first.dtype == np.uint8
        assert first.shape == IMAGE.shape
        np.testing.assert_array_equal(first, other(IMAGE, seed))


def test_the_image_itself_is_left_alone(filters: PixelFilters) -> None:
    before = IMAGE.copy()
    changed(filters, range(100))
    np.testing.assert_array_equal(IMAGE, before)


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise ModuleNotFoundError(f"No module named {name!r}")

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(TaskError, match=r"needs the package albumentations.*install") as caught:
        PixelFilters()
    assert caught.value.code == Code.CONFIG


def test_an_old_package_is_named_with_its_version(monkeypatch: pytest.MonkeyPatch) -> None:
    old = SimpleNamespace(Compose=object, __version__="1.3.1")
    monkeypatch.setattr(importlib, "import_module", lambda name: old)
    with pytest.raises(TaskError, match=r"albumentations>=2.0, found 1.3.1") as caught:
        PixelFilters()
    assert caught.value.code == Code.CONFIG
