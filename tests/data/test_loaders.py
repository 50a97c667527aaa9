"""Training and evaluation batches: the same for any workers and cache."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from data.augmentations import Augmentation, normalised_targets
from data.dataset_index import DatasetIndex
from data.datasets import Batch
from data.instances import Instances
from data.loaders import (
    EvaluationDataset,
    EvaluationLoader,
    LoaderConfig,
    TrainingLoader,
    evaluation_loader,
    training_loader,
)
from data.samplers import BatchingConfig
from ops.letterbox import boxes_to_network, plan_evaluation
from tests.data.conftest import SIZES
from utils.errors import Code, TaskError

STILL = Augmentation(**dict.fromkeys(Augmentation.__dataclass_fields__, 0.0))


def loader_of(index: DatasetIndex, **changes: Any) -> TrainingLoader:
    """A loader; keywords are of LoaderConfig or of training_loader."""
    config = {"image_size": 64, "batch_size": 3, "workers": 0, "cache": "ram"}
    fields = LoaderConfig.__dataclass_fields__
    config |= {name: changes.pop(name) for name in [*changes] if name in fields}
    arguments = {"seed": 1, "augmentation": Augmentation()} | changes
    return training_loader(index, LoaderConfig(**config), **arguments)


def epoch_of(loader, epoch: int) -> list[Batch]:
    loader.set_epoch(epoch)
    return list(loader)


def same(first: list[Batch], second: list[Batch]) -> bool:
    return all(
        torch.equal(a.images, b.images) and torch.equal(a.targets, b.targets)
        for a, b in zip(first, second, strict=True)
    )


class TestTrainingLoader:
    def test_batches(self, index: DatasetIndex) -> None:
        loader = loader_of(index)
        batches = epoch_of(loader, 0)
        assert len(loader) == len(batches) == 3
        assert [len(batch.images) for batch in batches] == [3, 3, 1]
        for batch in batches:
            assert batch.images.dtype == torch.uint8
            assert batch.images.shape[1:] == (3, 64, 64)
            assert batch.targets.dtype == torch.float32
            assert batch.targets.shape[1] == 6
            assert set(batch.targets[:, 0].tolist()) <= set(range(len(batch.images)))
            assert ((batch.targets[:, 2:] >= 0) & (batch.targets[:, 2:] <= 1)).all()

    @pytest.mark.parametrize(
        "augmentation", [Augmentation(), Augmentation(mosaic=0.8, mosaic9=0.5, mixup=0.5)]
    )
    def test_workers_and_cache_change_nothing(
        self, index: DatasetIndex, augmentation: Augmentation
    ) -> None:
        alone = loader_of(index, augmentation=augmentation)
        helped = loader_of(index, augmentation=augmentation, workers=2, cache="none")
        for epoch in (0, 1):
            assert same(epoch_of(alone, epoch), epoch_of(helped, epoch))

    def test_filters_depend_on_the_sample_alone(self, index: DatasetIndex) -> None:
        pytest.importorskip("albumentations", reason="the package albumentations is optional")
        filtered = Augmentation(albumentations=True)
        plain = loader_of(index)
        alone = loader_of(index, augmentation=filtered)
        helped = loader_of(index, augmentation=filtered, workers=2)
        pairs = [(epoch_of(alone, epoch), epoch_of(helped, epoch)) for epoch in range(20)]
        assert all(same(*pair) for pair in pairs)
        assert not all(same(pair[0], epoch_of(plain, epoch)) for epoch, pair in enumerate(pairs))

    def test_seed_and_epoch_change_samples(self, index: DatasetIndex) -> None:
        loader = loader_of(index)
        first = epoch_of(loader, 0)
        assert not same(first, epoch_of(loader, 1))
        assert same(first, epoch_of(loader, 0))
        assert not same(first, epoch_of(loader_of(index, seed=2), 0))

    def test_bad_image_is_dropped_with_the_cache(self, index: DatasetIndex) -> None:
        Path(index.paths[2]).write_bytes(b"")
        assert sum(len(batch.images) for batch in epoch_of(loader_of(index), 0)) == 6

    def test_bad_image_becomes_grey_without_the_cache(
        self, index: DatasetIndex, caplog: pytest.LogCaptureFixture
    ) -> None:
        Path(index.paths[2]).write_bytes(b"")
        loader = loader_of(index, cache="none", augmentation=STILL, batch_size=7)
        with caplog.at_level(logging.WARNING):
            batch = epoch_of(loader, 0)[0]
            epoch_of(loader, 1)
        loader.set_epoch(0)
        place = [image for _, image in loader.order].index(2)
        assert (batch.images[place] == 114).all()
        assert place not in batch.targets[:, 0].tolist()
        assert caplog.text.count(index.paths[2]) == 1

    def test_nothing_left_is_refused(self, index: DatasetIndex) -> None:
        for path in index.paths:
            Path(path).unlink()
        with pytest.raises(
            TaskError, match=r"no training image can be used \(7 listed\)"
        ) as caught:
            loader_of(index)
        assert caught.value.code == Code.DATASET


@pytest.fixture
def smooth(tmp_path: Path) -> DatasetIndex:
    """Seven images without pixel noise, each with one box."""
    paths = []
    for number, (height, width) in enumerate(SIZES):
        coarse = np.random.default_rng(number).integers(0, 256, (4, 4, 3), dtype=np.uint8)
        paths.append(str(tmp_path / f"smooth{number}.png"))
        cv2.imwrite(paths[-1], cv2.resize(coarse, (width, height)))
    boxes = [(4, 2, width // 2, height - 6) for height, width in SIZES]
    return DatasetIndex.build(paths, SIZES, Instances(boxes, np.arange(7) % 3), [1] * 7, "abc")


class TestDefaultSamples:
    """What the default settings params must stay what it was before there were more of them."""

    recorded = (
        (
            (0, 0),
            [[134, 134, 134, 134], [166, 172, 165, 148], [150, 185, 139, 152]],
            [[0, 4216, 5137, 2367, 3381], [0, 4216, 8752, 2367, 2496]],
        ),
        (
            (1, 3),
            [[179, 192, 168, 184], [138, 156, 150, 136], [109, 116, 117, 92]],
            [[0, 3986, 4706, 4438, 8876]],
        ),
    )

    def test_recorded_samples(self, smooth: DatasetIndex) -> None:
        """Seed 1, 64 pixels: upper means of the green plane over 16 x 16 pixels, targets x 10^4."""
        samples = loader_of(smooth).dataset
        for key, green, targets in self.recorded:
            image, own = samples[key]
            means = image[1].float().reshape(4, 16, 4, 16).mean((1, 3)).numpy()
            np.testing.assert_allclose(means[:3], green, atol=1.5)
            scaled = own[:, 1:].numpy() * [1, 1e4, 1e4, 1e4, 1e4]
            np.testing.assert_allclose(scaled, targets, atol=0.6)


class TestCloseMosaic:
    def test_the_last_epochs_are_as_without_mosaics(self, index: DatasetIndex) -> None:
        """Of 4 epochs 2 with mosaics; the worker processes stay the same ones all along."""
        loader = loader_of(index, workers=2, batching=BatchingConfig(mosaic_epochs=2))
        always = loader_of(index)
        never = loader_of(index, augmentation=Augmentation(mosaic=0.0))
        for epoch in (0, 1, 2, 3, 1):
            expected = always if epoch < 2 else never
            assert same(epoch_of(loader, epoch), epoch_of(expected, epoch)), epoch
        assert not same(epoch_of(always, 2), epoch_of(never, 2))

    def test_without_mosaics_there_is_no_mixup(self, index: DatasetIndex) -> None:
        mixed = Augmentation(mixup=1.0)
        loader = loader_of(index, augmentation=mixed, batching=BatchingConfig(mosaic_epochs=0))
        never = loader_of(index, augmentation=Augmentation(mosaic=0.0))
        assert same(epoch_of(loader, 0), epoch_of(never, 0))


class TestRectangular:
    rect = BatchingConfig(rect=True)

    def test_recorded_batch_shapes(self, golden, tmp_path: Path) -> None:
        """v7.0's batch shapes for 13 images at 640 pixels, 3 a batch, pad 0 (letterbox.json)."""
        recorded = json.loads(golden("letterbox.json").read_text())["dataset"]
        (case,) = [case for case in recorded["rect"] if case["pad"] == 0]
        sizes = recorded["image_hw"]
        paths = [str(tmp_path / f"{number}.png") for number in range(len(sizes))]
        for path, size in zip(paths, sizes, strict=True):
            cv2.imwrite(path, np.zeros((*size, 3), np.uint8))
        index = DatasetIndex.build(paths, sizes, Instances([], []), [0] * len(sizes), "a")
        names = {"image_size": "img_size", "batch_size": "batch_size", "stride": "stride"}
        asked = {name: case[key] for name, key in names.items()}
        loader = loader_of(index, batching=self.rect, **asked)
        order = [image for batch in loader.batch_sampler for _, image in batch]
        assert order == case["image_order"]
        shapes = [list(batch.images.shape[2:]) for batch in loader]
        assert shapes == case["batch_shapes_hw"]

    @pytest.mark.parametrize(("cache", "workers"), [("disk", 0), ("ram", 2)])
    def test_cache_and_workers_change_nothing(
        self, index: DatasetIndex, cache: str, workers: int
    ) -> None:
        alone = loader_of(index, cache="none", batching=self.rect)
        helped = loader_of(index, cache=cache, workers=workers, batching=self.rect)
        for epoch in (0, 1):
            assert same(epoch_of(alone, epoch), epoch_of(helped, epoch))
        assert not same(epoch_of(alone, 0), epoch_of(alone, 1))

    def test_still_images_are_letterboxed_into_the_batch_shape(self, index: DatasetIndex) -> None:
        """v7.0's letterbox of the image at full size, pixel for pixel; its box on what is white."""
        loader = loader_of(index, augmentation=STILL, batching=self.rect)
        loader.set_epoch(0)
        for keys, batch in zip(list(loader.batch_sampler), list(loader), strict=True):
            height, width = batch.images.shape[2:]
            assert height % 32 == width % 32 == 0
            for place, (_, image) in enumerate(keys):
                source = cv2.imread(index.paths[image])
                plan = plan_evaluation(source.shape[:2], 64, (height, width))
                resized = cv2.resize(source, plan.resized[::-1])
                expected = cv2.copyMakeBorder(
                    resized, *plan.borders, cv2.BORDER_CONSTANT, value=(114,) * 3
                )
                got = batch.images[place].numpy()[::-1].transpose(1, 2, 0)
                np.testing.assert_array_equal(got, expected)
                own = batch.targets[batch.targets[:, 0] == place, 2:].numpy()
                objects = index.instances_of(image)
                moved = objects.with_boxes(boxes_to_network(objects.boxes, plan))
                wanted = normalised_targets(moved, (height, width))
                np.testing.assert_allclose(own, wanted[:, 1:], atol=1e-6)


class TestImageWeights:
    weighted = BatchingConfig(image_weights=True)

    def test_workers_change_nothing(self, index: DatasetIndex) -> None:
        """Workers that were started before the weights changed take from the new draw."""
        alone = loader_of(index, batching=self.weighted)
        helped = loader_of(index, workers=2, batching=self.weighted)
        before = epoch_of(alone, 1)
        for epoch in (0, 1, 2):
            assert same(epoch_of(alone, epoch), epoch_of(helped, epoch))
            for loader in (alone, helped):
                loader.update_class_weights(np.array([0.0, 0.995, 0.0]))
        assert not same(before, epoch_of(alone, 1))

    def test_mosaics_are_of_the_weighted_draw(self, index: DatasetIndex) -> None:
        """Class b (images 1 and 4) is all there is to learn: nothing else is ever seen."""
        loader = loader_of(index, batching=self.weighted)
        loader.update_class_weights(np.array([0.995, 0.0, 0.995]))
        loader.order.weights[[0, 2, 3, 5, 6]] = 0  # AP ends at 0.995: a little would be left
        classes = torch.cat([batch.targets[:, 1] for batch in epoch_of(loader, 0)])
        assert set(classes.tolist()) == {1.0}

    def test_class_weights_matter_to_weighted_batches_only(self, index: DatasetIndex) -> None:
        loader = loader_of(index)
        before = epoch_of(loader, 0)
        loader.update_class_weights(np.array([0.995, 0.0, 0.0]))
        assert same(before, epoch_of(loader, 0))


class TestQuad:
    @pytest.mark.parametrize(
        ("batch_size", "rect", "workers"), [(3, True, 0), (6, False, 2), (7, False, 0)]
    )
    def test_every_batch_size_gives_batches_of_twice_the_side(
        self, index: DatasetIndex, batch_size: int, rect: bool, workers: int
    ) -> None:
        batching = BatchingConfig(quad=True, rect=rect)
        loader = loader_of(index, batch_size=batch_size, workers=workers, batching=batching)
        batches = epoch_of(loader, 0)
        assert len(batches) == len(loader) == -(-7 // batch_size)
        full = -(-batch_size // 4)
        assert [len(batch.images) for batch in batches[:-1]] == [full] * (len(batches) - 1)
        assert len(batches[-1].images) == -(-(7 - (len(loader) - 1) * batch_size) // 4)
        for batch in batches:
            assert max(batch.images.shape[2:]) == 128
            assert ((batch.targets[:, 2:] >= 0) & (batch.targets[:, 2:] <= 1)).all()


def evaluation_of(index: DatasetIndex, **changes: Any) -> EvaluationLoader:
    config = {"image_size": 64, "batch_size": 3, "workers": 0} | changes
    return evaluation_loader(index, LoaderConfig(**config))


class TestEvaluationLoader:
    def test_rectangular_batches(self, index: DatasetIndex) -> None:
        loader = evaluation_of(index)
        batches = list(loader)
        assert len(loader) == len(batches) == 3
        assert sorted(image for batch in batches for image in batch.indices) == list(range(7))
        for batch in batches:
            assert batch.images.dtype == torch.uint8
            assert {plan.shape for plan in batch.plans} == {tuple(batch.images.shape[2:])}
            assert len(batch.plans) == len(batch.indices) == len(batch.images)
        shapes = [tuple(batch.images.shape[2:]) for batch in batches]
        assert shapes[0][0] < shapes[0][1]
        assert shapes[-1][0] >= shapes[-1][1]

    def test_targets_sit_on_what_is_white(self, index: DatasetIndex) -> None:
        for batch in evaluation_of(index):
            height, width = batch.images.shape[2:]
            for image, _, x, y, w, h in batch.targets.tolist():
                left, right = round((x - w / 2) * width), round((x + w / 2) * width)
                top, bottom = round((y - h / 2) * height), round((y + h / 2) * height)
                own = batch.images[int(image)]
                assert (own[:, top + 1 : bottom - 1, left + 1 : right - 1] == 255).all()
                assert (own[:, top + 1, left - 2] < 128).all()

    def test_workers_change_nothing(self, index: DatasetIndex) -> None:
        alone, helped = list(evaluation_of(index)), list(evaluation_of(index, workers=2))
        assert same(alone, helped)
        assert [(a.plans, a.indices) for a in alone] == [(h.plans, h.indices) for h in helped]

    @pytest.mark.parametrize("cache", ["ram", "val"])
    def test_kept_batches_need_no_files(self, index: DatasetIndex, cache: str) -> None:
        loader = evaluation_of(index, cache=cache)
        first = list(loader)
        for path in index.paths:
            Path(path).unlink()
        second = list(loader)
        assert all(torch.equal(a.images, b.images) for a, b in zip(first, second, strict=True))

    def test_an_unfinished_pass_is_not_kept(self, index: DatasetIndex) -> None:
        loader = evaluation_of(index, cache="ram")
        next(iter(loader))
        assert len(list(loader)) == 3

    def test_unreadable_images_are_left_out(self, index: DatasetIndex) -> None:
        dataset = EvaluationDataset(index, LoaderConfig(64, 3))
        for position in dataset.order[:4]:
            Path(index.paths[position]).write_bytes(b"")
        batches = list(evaluation_of(index))
        assert [len(batch.images) for batch in batches] == [2, 1]
        assert not {image for batch in batches for image in batch.indices} & set(dataset.order[:4])
