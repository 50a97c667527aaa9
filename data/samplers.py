"""Which images an epoch shows, in which order, and which of them share a batch.

A sample is asked for by its key, (epoch, image) or (epoch, image, repeat): the same key gives the
same sample, whoever asks.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from torch.utils.data import Sampler

from data.dataset_index import DatasetIndex
from data.image_weights import image_weights
from utils.seeding import numpy_generator

Key = tuple[int, ...]
Positions = npt.NDArray[np.int64]


@dataclass(frozen=True)
class BatchingConfig:
    """How an epoch is put together; the default is v7.0's: every image once, shuffled, mosaics."""

    rect: bool = False
    """Batches of images of like shape in the smallest frame, in one order, without mosaics."""
    image_weights: bool = False
    """Images are drawn with replacement, those with rare and badly found classes more often."""
    quad: bool = False
    """Four samples become one of twice the side."""
    mosaic_epochs: int | None = None
    """Epochs with mosaics, from the first one on; None for all."""


class TrainingSampler(Sampler[Key]):
    """Every image once per epoch, as keys (epoch, image), shuffled by the seed and the epoch.

    Of `world` processes each takes every world-th image from `rank` on; the order is wrapped
    around so that all get equally many.
    """

    def __init__(self, count: int, *, seed: int, rank: int = 0, world: int = 1) -> None:
        self.count = count
        self.seed = seed
        self.rank = rank
        self.world = world
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch that the next pass belongs to."""
        self.epoch = epoch

    def __len__(self) -> int:
        """Images per epoch for this process."""
        return -(-self.count // self.world)

    def __iter__(self) -> Iterator[Key]:
        """The keys of one epoch."""
        order = numpy_generator(self.seed, self.epoch).permutation(self.count)
        return ((self.epoch, int(image)) for image in self.share_of(order))

    def share_of(self, items: Positions) -> Positions:
        """What this process takes of the items [count] of all."""
        return np.resize(items, len(self) * self.world)[self.rank :: self.world]


class WeightedSampler(TrainingSampler):
    """As many images as there are, drawn with replacement by how much there is to learn.

    `pool` [n], shared with the worker processes, is where an epoch's draw is written down, since
    mosaics take their other pictures from it too. An image drawn again has (epoch, image, repeat)
    for a key, so that it comes in another form. All of `world` processes must weigh alike.
    """

    def __init__(
        self, index: DatasetIndex, pool: Positions, *, seed: int, rank: int = 0, world: int = 1
    ) -> None:
        super().__init__(len(index), seed=seed, rank=rank, world=world)
        self.index = index
        self.pool = pool
        self.weigh(np.zeros(len(index.class_names)))

    def weigh(self, average_precision: npt.NDArray[np.floating]) -> None:
        """Take the classes' average precisions [c] into account from the next epoch on."""
        weights = image_weights(self.index, average_precision)
        # Where nothing is left to learn, or nothing ever was, all images are alike.
        self.weights = weights if weights.any() else np.ones(len(weights))

    def __iter__(self) -> Iterator[Key]:
        """The keys of one epoch."""
        generator = numpy_generator(self.seed, self.epoch)
        drawn = generator.choice(self.count, self.count, p=self.weights / self.weights.sum())
        self.pool[:] = drawn
        seen: dict[int, int] = {}
        keys: list[Key] = []
        for image in drawn.tolist():
            repeat = seen[image] = seen.get(image, -1) + 1
            keys.append((self.epoch, image, repeat) if repeat else (self.epoch, image))
        return (keys[place] for place in self.share_of(np.arange(self.count)))


class RectangularBatches(Sampler[list[Key]]):
    """Batches of keys in a given order of the images [n], which nothing shuffles, as in v7.0.

    Of `world` processes each takes every world-th batch from `rank` on, wrapped around.
    """

    def __init__(self, order: Positions, batch_size: int, *, rank: int = 0, world: int = 1) -> None:
        self.batches = [
            order[start : start + batch_size].tolist() for start in range(0, len(order), batch_size)
        ]
        self.share = TrainingSampler(len(self.batches), seed=0, rank=rank, world=world)
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch that the next pass belongs to."""
        self.epoch = epoch

    def __len__(self) -> int:
        """Batches per epoch for this process."""
        return len(self.share)

    def __iter__(self) -> Iterator[list[Key]]:
        """The batches of one epoch."""
        for number in self.share.share_of(np.arange(len(self.batches))):
            yield [(self.epoch, image) for image in self.batches[number]]


class QuadBatchSampler(Sampler[list[tuple[Key, ...]]]):
    """The batches of another sampler with four keys in each place; the last may hold fewer."""

    def __init__(self, batches: Sampler[Any]) -> None:
        self.batches = batches

    def __len__(self) -> int:
        """Batches per epoch."""
        return len(self.batches)  # type: ignore[arg-type]

    def __iter__(self) -> Iterator[list[tuple[Key, ...]]]:
        """The batches of one epoch."""
        for batch in self.batches:
            yield [tuple(batch[start : start + 4]) for start in range(0, len(batch), 4)]


def shared_positions(count: int) -> Positions:
    """0 ... count - 1 in memory that processes forked later see change."""
    memory = mmap.mmap(-1, max(count, 1) * 8)
    positions = np.frombuffer(memory, np.int64)[:count]
    positions[:] = np.arange(count)
    return positions
