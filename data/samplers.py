"""Samplers: which images an epoch shows, in which order, and which of them share a batch.

A sampler yields keys, (epoch, image) or (epoch, image, repeat): the same key gives the same
sample in any process.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
from torch.utils.data import Sampler

from data.dataset_index import DatasetIndex
from data.datasets import Key, Positions
from utils.seeding import numpy_generator

Floats = npt.NDArray[np.float64]
Item = TypeVar("Item", covariant=True)


@dataclass(frozen=True)
class BatchingConfig:
    """How an epoch is put together; the default is v7.0's: every image once, shuffled, mosaics."""

    rect: bool = False
    """Rectangular batches of images of like shape, in one order, without mosaics."""
    image_weights: bool = False
    """Images are drawn with replacement, weighted by their classes (see `image_weights`)."""
    quad: bool = False
    """Four samples become one of twice the side."""
    mosaic_epochs: int | None = None
    """Epochs with mosaics, from the first one on; None for all."""


def image_weights(index: DatasetIndex, average_precision: npt.NDArray[np.floating]) -> Floats:
    """Return the weight of each image [n]: the sum over its boxes of class weight · (1 - AP)² / c.

    The formula is that of v7.0's `--image-weights`: class weights are the inverse of the box
    counts, of mean 1; no boxes count as one box. `average_precision` [c] is mAP50-95 per class, 0
    before the first evaluation. An image without boxes has weight 0.
    """
    classes = len(index.class_names)
    inverse = 1.0 / np.maximum(index.counts(), 1)
    weights = inverse / inverse.sum() * classes
    worth = weights * (1 - np.asarray(average_precision)) ** 2 / classes
    sums = np.bincount(index.owners(), weights=worth[index.classes], minlength=len(index))
    return sums.astype(np.float64)


class ShardedSampler(Sampler[Item]):
    """A process's share of an epoch of `count` items.

    Each of `world` processes takes every world-th item from its `rank` on; the order is wrapped
    around so that all get equally many.
    """

    def __init__(self, count: int, *, rank: int = 0, world: int = 1) -> None:
        self.count = count
        self.rank = rank
        self.world = world
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch that the next pass belongs to."""
        self.epoch = epoch

    def __len__(self) -> int:
        """Return the items per epoch of this process."""
        return -(-self.count // self.world)

    def shard(self, items: Positions) -> Positions:
        """Return this process's part of the items [count] of all."""
        return np.resize(items, len(self) * self.world)[self.rank :: self.world]


class TrainingSampler(ShardedSampler[Key]):
    """Every image once per epoch, as keys (epoch, image), shuffled by the seed and the epoch."""

    def __init__(self, count: int, *, seed: int, rank: int = 0, world: int = 1) -> None:
        super().__init__(count, rank=rank, world=world)
        self.seed = seed

    def __iter__(self) -> Iterator[Key]:
        order = numpy_generator(self.seed, self.epoch).permutation(self.count)
        return ((self.epoch, int(image)) for image in self.shard(order))


class WeightedSampler(TrainingSampler):
    """As many images as there are, drawn with replacement by `image_weights`.

    An epoch's draw is written into `mosaic_candidates` [n], which is shared with the worker
    processes, since mosaics take their other images from it too. An image drawn again has the key
    (epoch, image, repeat), and so another augmentation. All processes must use the same weights.
    """

    def __init__(
        self,
        index: DatasetIndex,
        mosaic_candidates: Positions,
        *,
        seed: int,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        super().__init__(len(index), seed=seed, rank=rank, world=world)
        self.index = index
        self.mosaic_candidates = mosaic_candidates
        self.update_class_weights(np.zeros(len(index.class_names)))

    def update_class_weights(self, average_precision: npt.NDArray[np.floating]) -> None:
        """Use the classes' average precisions [c] from the next epoch on."""
        weights = image_weights(self.index, average_precision)
        # Where nothing is left to learn, or nothing ever was, all images are alike.
        self.weights = weights if weights.any() else np.ones(len(weights))

    def __iter__(self) -> Iterator[Key]:
        generator = numpy_generator(self.seed, self.epoch)
        drawn = generator.choice(self.count, self.count, p=self.weights / self.weights.sum())
        self.mosaic_candidates[:] = drawn
        seen: dict[int, int] = {}
        keys: list[Key] = []
        for image in drawn.tolist():
            repeat = seen[image] = seen.get(image, -1) + 1
            keys.append((self.epoch, image, repeat) if repeat else (self.epoch, image))
        return (keys[place] for place in self.shard(np.arange(self.count)))


class RectangularBatches(ShardedSampler[list[Key]]):
    """Batches of keys in a given order of the images [n], which nothing shuffles, as in v7.0."""

    def __init__(self, order: Positions, batch_size: int, *, rank: int = 0, world: int = 1) -> None:
        self.batches = [
            order[start : start + batch_size].tolist() for start in range(0, len(order), batch_size)
        ]
        super().__init__(len(self.batches), rank=rank, world=world)

    def __iter__(self) -> Iterator[list[Key]]:
        for number in self.shard(np.arange(self.count)):
            yield [(self.epoch, image) for image in self.batches[number]]


class QuadBatchSampler(Sampler[list[tuple[Key, ...]]]):
    """The batches of another sampler with four keys in each place; the last may hold fewer."""

    def __init__(self, batches: Sampler[Any]) -> None:
        self.batches = batches

    def __len__(self) -> int:
        return len(self.batches)  # type: ignore[arg-type]

    def __iter__(self) -> Iterator[list[tuple[Key, ...]]]:
        for batch in self.batches:
            yield [tuple(batch[start : start + 4]) for start in range(0, len(batch), 4)]


def shared_positions(count: int) -> Positions:
    """Return 0 ... count - 1 in memory shared with processes forked later."""
    memory = mmap.mmap(-1, max(count, 1) * 8)
    positions = np.frombuffer(memory, np.int64)[:count]
    positions[:] = np.arange(count)
    return positions
