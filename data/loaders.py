"""The loaders of training and evaluation.

Nothing random depends on the number of workers: each sample has a generator of its own, made of
the seed, the epoch and the image.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import BatchSampler, DataLoader, Dataset, Sampler

from data.augmentations import Augmentation, PixelFilters
from data.dataset_index import DatasetIndex
from data.datasets import (
    EvaluationBatch,
    EvaluationDataset,
    Positions,
    QuadDataset,
    Sample,
    TrainingDataset,
    collate,
)
from data.image_cache import BadImage, fits_in_memory, open_image_cache
from data.samplers import (
    BatchingConfig,
    QuadBatchSampler,
    RectangularBatches,
    TrainingSampler,
    WeightedSampler,
    shared_positions,
)
from data.workers import PREFETCH, limit_worker_threads, thread_count, worker_count
from ops.letterbox import rectangular_shapes
from utils.distributed import SINGLE_PROCESS, DistContext
from utils.errors import Code, TaskError
from utils.seeding import torch_generator

T = TypeVar("T")


@dataclass(frozen=True)
class LoaderConfig:
    """How images become batches, on one process."""

    image_size: int
    batch_size: int
    stride: int = 32
    """Sides of rectangular batches are multiples of it."""
    workers: int = -1
    """Worker processes; -1 lets the machine decide."""
    cache: str = "none"
    """'ram', 'disk' or 'val': where decoded images (of evaluation: batches) are kept, if at all."""
    cache_dir: str = ""
    """Folder of the nameless file of 'disk'; '' for the system's temporary one."""
    device: torch.device | None = None
    """Where batches are going: pinned memory for a GPU; None is the CPU."""

    @property
    def on_gpu(self) -> bool:
        """Whether batches go to a GPU."""
        return self.device is not None and self.device.type == "cuda"

    def worker_count(self, batch_bytes: int, processes: DistContext) -> int:
        """Return the worker processes to start for batches of so many bytes."""
        return worker_count(
            self.workers,
            batch_bytes=batch_bytes,
            device=self.device or torch.device("cpu"),
            local_world_size=processes.local_world_size,
        )


class TrainingLoader(DataLoader[Sample]):
    """A DataLoader of augmented batches; call `set_epoch` before each pass."""

    def __init__(
        self,
        samples: Dataset[Sample],
        order: TrainingSampler | RectangularBatches,
        *,
        cached: bool,
        **options: Any,
    ) -> None:
        self.order = order
        self.cached = cached
        """Whether no file is read any more."""
        super().__init__(samples, collate_fn=collate, **options)

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch that the next pass belongs to."""
        self.order.set_epoch(epoch)

    def update_class_weights(self, average_precision: npt.NDArray[np.floating]) -> None:
        """Use mAP50-95 of each class [c] where images are drawn by weight."""
        if isinstance(self.order, WeightedSampler):
            self.order.update_class_weights(average_precision)


def training_loader(
    index: DatasetIndex,
    config: LoaderConfig,
    *,
    seed: int,
    augmentation: Augmentation,
    batching: BatchingConfig | None = None,
    processes: DistContext = SINGLE_PROCESS,
) -> tuple[TrainingLoader, tuple[BadImage, ...]]:
    """Return a loader of augmented batches, and the images that were dropped.

    With `cache` 'ram' or 'disk' all images are decoded before this returns; images that fail are
    dropped and named in the log. Raises TaskError when none is left, or when an optional package
    that the augmentation asks for is missing. Each of several processes gets its shard.
    """
    batching = batching or BatchingConfig()
    filters = PixelFilters() if augmentation.albumentations else None
    images, dropped = open_image_cache(
        index,
        config.image_size,
        cache=config.cache,
        folder=config.cache_dir,
        threads=thread_count(),
    )
    if not len(images.index):
        raise TaskError(
            Code.DATASET,
            f"none of the {len(index)} training images can be used: check the files named above.",
        )
    candidates = shared_positions(len(images.index))
    order, output_sizes = _order(
        images.index, candidates, batching, config, seed=seed, processes=processes
    )
    dataset: Dataset[Sample] = TrainingDataset(
        images,
        image_size=config.image_size,
        augmentation=augmentation,
        seed=seed,
        mosaic_epochs=0 if output_sizes is not None else batching.mosaic_epochs,
        output_sizes=output_sizes,
        mosaic_candidates=candidates,
        filters=filters,
    )
    workers = config.worker_count(config.batch_size * 3 * config.image_size**2, processes)
    loader = TrainingLoader(
        QuadDataset(dataset, seed=seed) if batching.quad else dataset,
        order,
        cached=images.decoded,
        persistent_workers=workers > 0,
        **_batches_of(order, config.batch_size, quad=batching.quad),
        **_worker_options(workers, seed, pin=config.on_gpu),
    )
    return loader, tuple(dropped)


def _order(
    index: DatasetIndex,
    candidates: Positions,
    batching: BatchingConfig,
    config: LoaderConfig,
    *,
    seed: int,
    processes: DistContext,
) -> tuple[TrainingSampler | RectangularBatches, Positions | None]:
    """Return the order of an epoch, and the shape of each image [n, 2] in rectangular batches."""
    rank, world = processes.rank, processes.world_size
    if batching.image_weights:
        return WeightedSampler(index, candidates, seed=seed, rank=rank, world=world), None
    if not batching.rect:
        return TrainingSampler(len(index), seed=seed, rank=rank, world=world), None
    order, batch_of, shapes = rectangular_shapes(
        index.sizes,
        image_size=config.image_size,
        batch_size=config.batch_size,
        stride=config.stride,
        pad=0.0,
    )
    output_sizes = np.empty_like(shapes, shape=(len(index), 2))
    output_sizes[order] = shapes[batch_of]
    return RectangularBatches(order, config.batch_size, rank=rank, world=world), output_sizes


def _batches_of(
    order: TrainingSampler | RectangularBatches, batch_size: int, *, quad: bool
) -> dict[str, Any]:
    """Return the options of a DataLoader that give these batches."""
    if isinstance(order, TrainingSampler) and not quad:
        return {"sampler": order, "batch_size": batch_size}
    batches: Sampler[Any] = order
    if isinstance(order, TrainingSampler):
        batches = BatchSampler(batches, batch_size, drop_last=False)
    return {"batch_sampler": QuadBatchSampler(batches) if quad else batches}


def _worker_options(workers: int, seed: int, *, pin: bool) -> dict[str, Any]:
    return {
        "num_workers": workers,
        "pin_memory": pin,
        "prefetch_factor": PREFETCH if workers else None,
        "multiprocessing_context": "fork" if workers else None,
        "worker_init_fn": limit_worker_threads,
        "generator": torch_generator(seed),
    }


class EvaluationLoader:
    """Batches of an EvaluationDataset by `numbers`; those without a readable image are skipped.

    With `keep` the batches of the first full pass stay in memory and later passes read no file.
    """

    def __init__(
        self, dataset: EvaluationDataset, numbers: range, *, workers: int, pin: bool, keep: bool
    ) -> None:
        self.dataset = dataset
        self.numbers = numbers
        self.keep = keep
        self._kept: list[EvaluationBatch] | None = None
        self._loader: DataLoader[EvaluationBatch] = DataLoader(
            dataset,
            batch_size=None,
            sampler=numbers,
            collate_fn=_unchanged,
            **_worker_options(workers, 0, pin=pin),
        )

    @property
    def cached(self) -> bool:
        """Whether no file is read any more."""
        return self._kept is not None

    def __len__(self) -> int:
        """Return the number of batches, counting those that may turn out empty."""
        return len(self.numbers)

    def __iter__(self) -> Iterator[EvaluationBatch]:
        """Yield the batches of one pass."""
        if self._kept is not None:
            yield from self._kept
            return
        batches = []
        for batch in self._loader:
            if not batch.indices:
                continue
            if self.keep:
                # A copy, because what a worker sent lies in the scarce shared memory.
                batches.append(replace(batch, images=batch.images.clone()))
            yield batch
        if self.keep:
            self._kept = batches


def evaluation_loader(
    index: DatasetIndex,
    config: LoaderConfig,
    *,
    pad: float = 0.5,
    processes: DistContext = SINGLE_PROCESS,
) -> EvaluationLoader:
    """Return a loader of every image once, letterboxed in rectangular batches as in v7.0.

    With `cache` 'ram' or 'val' the finished batches are kept for the next pass, if they fit into
    memory. Each of several processes gets its shard of the batches. `pad` is in strides.
    """
    dataset = EvaluationDataset(
        index,
        image_size=config.image_size,
        batch_size=config.batch_size,
        stride=config.stride,
        pad=pad,
    )
    numbers = range(processes.rank, len(dataset), processes.world_size)
    sizes = [dataset.bytes_of(number) for number in numbers]
    keep = config.cache in ("ram", "val") and fits_in_memory(
        sum(sizes) * processes.local_world_size, f"{len(index)} evaluation images"
    )
    workers = config.worker_count(max(sizes, default=0), processes)
    return EvaluationLoader(dataset, numbers, workers=workers, pin=config.on_gpu, keep=keep)


def _unchanged(batch: T) -> T:
    return batch
