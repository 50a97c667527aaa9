"""Augmentation of whole batches on the device: the host's boxes, and nearly its pixels."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from data import device_augment, image_cache, plans
from data.augmentations import Augmentation
from data.dataset_index import DatasetIndex
from data.instances import Instances
from data.loaders import LoaderConfig, TrainingLoader, training_loader
from data.samplers import BatchingConfig
from tests.conftest import DEVICES, ROOT
from tests.pretend_gpu import PretendGpu
from utils.distributed import DistContext

PHOTOGRAPHS = ROOT / "docs" / "pictures" / "validation.jpg"
SIZES = [(96, 128), (128, 96), (70, 128), (128, 128), (40, 100), (128, 60), (100, 90), (30, 128)]
NOTHING = dict.fromkeys(Augmentation.__dataclass_fields__, 0.0)
COLOURS = {"hsv_h": 0.015, "hsv_s": 0.7, "hsv_v": 0.4}
VIEW = {"degrees": 10.0, "translate": 0.1, "scale": 0.5, "shear": 5.0}
CASES = {
    "one image in the middle": {},
    "mosaic of four": {"mosaic": 1.0},
    "mosaic of nine": {"mosaic": 1.0, "mosaic9": 1.0},
    "colours": COLOURS,
    "flips": {"flipud": 0.5, "fliplr": 0.5},
    "affine view": VIEW,
    "perspective": {"perspective": 0.001},
    "mixup": {"mosaic": 0.7, "mixup": 0.6},
    "all": {**COLOURS, **VIEW, "perspective": 0.0005, "flipud": 0.5, "fliplr": 0.5}
    | {"mosaic": 0.9, "mosaic9": 0.5, "mixup": 0.5},
}


@pytest.fixture
def photographs(tmp_path: Path) -> DatasetIndex:
    """Eight parts of photographs with two boxes each."""
    whole = cv2.imread(str(PHOTOGRAPHS))
    generator = np.random.default_rng(0)
    paths, boxes = [], []
    for number, (height, width) in enumerate(SIZES):
        y, x = (int(generator.integers(0, 400 - side)) for side in (height, width))
        paths.append(str(tmp_path / f"{number}.png"))
        cv2.imwrite(paths[-1], whole[y : y + height, x : x + width])
        for left, top in generator.integers(0, (width // 2, height // 2), (2, 2)).tolist():
            boxes.append((left, top, left + width // 3, top + height // 3))
    instances = Instances(np.array(boxes, np.float32), np.arange(len(boxes)) % 3)
    return DatasetIndex.build(paths, SIZES, instances, [2] * len(SIZES), "abc")


def loader_of(index: DatasetIndex, **changes: Any) -> TrainingLoader:
    """A loader of three images a batch; keywords are of LoaderConfig or of training_loader."""
    config = {"image_size": 64, "batch_size": 3, "workers": 0, "cache": "ram"}
    fields = LoaderConfig.__dataclass_fields__
    config |= {name: changes.pop(name) for name in [*changes] if name in fields}
    return training_loader(index, LoaderConfig(**config), seed=1, **changes)


def compare(host: TrainingLoader, device: TrainingLoader, epoch: int = 0) -> None:
    """Assert equal targets, and at most two grey levels between 99% of the pixels."""
    differences = []
    for loader in (host, device):
        loader.set_epoch(epoch)
    for expected, got in zip(host, device, strict=True):
        assert torch.equal(got.targets, expected.targets)
        assert got.images.dtype == torch.uint8
        assert got.images.is_contiguous()
        levels = got.images.cpu().int() - expected.images.int()
        differences.append(levels.abs().amax(1).flatten())
    assert (torch.cat(differences) <= 2).float().mean() >= 0.99


@pytest.mark.parametrize("cache", ["gpu", "none"])
@pytest.mark.parametrize("name", CASES)
def test_a_batch_is_that_of_the_host(photographs: DatasetIndex, name: str, cache: str) -> None:
    """Every augmentation alone and all together, at a size below and above that of the files."""
    augmentation = Augmentation(**{**NOTHING, **CASES[name]})
    for size in (96, 160):
        common = {"image_size": size, "augmentation": augmentation}
        device = loader_of(photographs, cache=cache, augment_on=torch.device("cpu"), **common)
        assert device.cached == (cache == "gpu")
        compare(loader_of(photographs, **common), device, epoch=1)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("cache", ["gpu", "ram"])
@pytest.mark.parametrize(
    "change",
    [
        {"batching": BatchingConfig(rect=True)},
        {"batching": BatchingConfig(quad=True)},
        {"batching": BatchingConfig(image_weights=True)},
        {"batching": BatchingConfig(mosaic_epochs=0)},
        {"processes": DistContext(1, 2, 1, 2)},
    ],
    ids=["rect", "quad", "image weights", "closed mosaic", "second rank"],
)
def test_every_kind_of_batches(
    photographs: DatasetIndex, change: dict[str, Any], cache: str, device: str
) -> None:
    common = {"augmentation": Augmentation(mixup=0.5), "batch_size": 5, **change}
    where = torch.device(device)
    on_gpu = where.type == "cuda"
    made = loader_of(photographs, cache=cache, augment_on=where, on_gpu=on_gpu, **common)
    compare(loader_of(photographs, **common), made)


@pytest.mark.parametrize("cache", ["gpu", "none"])
def test_workers_chunks_and_wide_addresses_change_nothing(
    photographs: DatasetIndex, cache: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    common = {"augmentation": Augmentation(mixup=0.5), "cache": cache}
    common |= {"augment_on": torch.device("cpu")}
    expected = list(loader_of(photographs, **common))
    monkeypatch.setattr(device_augment, "PIXELS_AT_ONCE", 64 * 64)
    monkeypatch.setattr(plans, "WIDE", 0)
    for loader in (loader_of(photographs, **common), loader_of(photographs, workers=2, **common)):
        for got, one in zip(loader, expected, strict=True):
            assert torch.equal(got.images, one.images)
            assert torch.equal(got.targets, one.targets)


def test_images_are_copied_to_the_device_in_portions(
    photographs: DatasetIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A portion for each image or two, and one image in between that is broken."""
    Path(photographs.paths[3]).write_bytes(b"")
    monkeypatch.setattr(image_cache, "PORTION", 64 * 64 * 3)
    augmentation = Augmentation()
    kept = loader_of(
        photographs, cache="gpu", augment_on=torch.device("cpu"), augmentation=augmentation
    )
    assert len(kept.order) == len(SIZES) - 1
    compare(loader_of(photographs, augmentation=augmentation), kept)


def test_a_broken_image_is_grey_where_none_is_kept(photographs: DatasetIndex) -> None:
    Path(photographs.paths[2]).write_bytes(b"")
    common = {"augmentation": Augmentation(), "cache": "none"}
    device = loader_of(photographs, augment_on=torch.device("cpu"), **common)
    compare(loader_of(photographs, **common), device)


@pytest.mark.parametrize("reason", ["share", "memory"])
@pytest.mark.parametrize("cache", ["gpu", "auto"])
def test_images_that_do_not_fit_the_gpu_are_kept_on_the_host(
    photographs: DatasetIndex,
    pretend_gpu: PretendGpu,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    cache: str,
    reason: str,
) -> None:
    """Because of the setting, or because the memory turns out to be full."""
    pixels = sum(64 * round(min(size) * 64 / max(size)) for size in SIZES)
    if reason == "memory":
        pretend_gpu.memory = pixels  # bytes: a third of what is needed
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda *_: (1 << 40, 1 << 40))
    common = {"augmentation": Augmentation(), "cache": cache, "on_gpu": True}
    share = 0.9 if reason == "memory" else 1e-9
    with caplog.at_level(logging.WARNING):
        images = image_cache.open_image_cache(
            photographs, 64, cache=cache, device=torch.device("cuda"), device_share=share
        )
    assert images.on_device is None
    assert images.pixels is not None
    assert "8 training images would take 0.0 GiB on cuda" in caplog.text
    pretend_gpu.memory = 1 << 29
    device = loader_of(
        photographs, augment_on=torch.device("cuda"), device_share=share, images=images, **common
    )
    compare(loader_of(photographs, augmentation=Augmentation()), device)


def test_a_batch_that_does_not_fit_is_made_in_halves(
    photographs: DatasetIndex, pretend_gpu: PretendGpu, caplog: pytest.LogCaptureFixture
) -> None:
    common = {"augmentation": Augmentation(), "batch_size": 8}
    device = loader_of(photographs, augment_on=torch.device("cuda"), on_gpu=True, **common)
    pretend_gpu.memory = pretend_gpu.in_use + 4 * 64 * 64 * 200
    with caplog.at_level(logging.WARNING):
        compare(loader_of(photographs, **common), device)
    assert "ran out of memory with 8 images at once: going on with 4 at most" in caplog.text


@pytest.mark.parametrize(
    ("change", "budget"), [({}, 60), ({"mixup": 1.0, "mosaic9": 0.5, "perspective": 0.001}, 75)]
)
def test_budget_of_a_batch_on_a_gpu(
    photographs: DatasetIndex, pretend_gpu: PretendGpu, change: dict[str, float], budget: int
) -> None:
    """Sixteen images of mosaics: few launches, no wait, and no pixel that is copied."""
    index = photographs.subset([*range(8)] * 4)
    loader = loader_of(
        index,
        batch_size=16,
        image_size=128,
        cache="auto",
        on_gpu=True,
        augment_on=torch.device("cuda"),
        augmentation=Augmentation(**change),
    )
    batches = iter(loader)
    next(batches)
    with pretend_gpu.watch() as seen:
        batch = next(batches)
    assert batch.images.is_cuda
    seen.assert_within(budget)
    assert set(seen.bytes) == {"h2d async"}
    assert seen.bytes["h2d async"] < batch.images.numel() // 2, "plans, not pixels"
