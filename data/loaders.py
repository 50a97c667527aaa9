"""The loaders that training, evaluation and inference ask for, and how training samples are made.

Nothing random depends on the number of workers: each sample has its own generator, made of the
seed, the epoch and the image.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch.utils.data import BatchSampler, DataLoader, Dataset, Sampler

from data.augmentations import Augmentation, Filters, apply_sample, draw_sample
from data.batches import Batch, EvaluationBatch, Sample, add_batch_index, collate
from data.dataset_index import DatasetIndex
from data.evaluation_loader import EvaluationDataset, EvaluationLoader, evaluation_loader
from data.image_cache import BadImage, ImageCache, Tell, open_store
from data.image_weights import class_average_precision
from data.mosaic import FILL
from data.pixel_filters import PixelFilters
from data.quad import QuadDataset
from data.samplers import (
    BatchingConfig,
    Key,
    Positions,
    QuadBatchSampler,
    RectangularBatches,
    TrainingSampler,
    WeightedSampler,
    shared_positions,
)
from data.stream import DecodedImage, stream_images
from data.workers import PREFETCH, prepare_worker, thread_count, worker_count
from evaluation.metrics import ClassMetrics
from ops.letterbox import rectangular_shapes
from utils.errors import Code, TaskError
from utils.seeding import numpy_generator, torch_generator

__all__ = [
    "Batch",
    "DecodedImage",
    "EvaluationBatch",
    "EvaluationDataset",
    "EvaluationLoader",
    "TrainingDataset",
    "TrainingLoader",
    "TrainingSampler",
    "collate",
    "evaluation_loader",
    "stream_images",
    "training_loader",
]


class TrainingDataset(Dataset[Sample]):
    """Augmented samples by key: image uint8 [3, side, side], targets float32 [k, 6].

    Column 0 of the targets is left 0 for the place in the batch. The same key gives the same
    sample, whoever asks. `frames` [n, 2] are the sizes of samples that are no squares, and
    `pool` [n] the pictures for mosaics, which may change between epochs; from epoch
    `mosaic_epochs` on there are no mosaics, so nothing is mixed either.
    """

    def __init__(
        self,
        store: ImageCache,
        *,
        image_size: int,
        augmentation: Augmentation,
        seed: int,
        mosaic_epochs: int | None = None,
        frames: Positions | None = None,
        pool: Positions | None = None,
        filters: Filters | None = None,
    ) -> None:
        self.store = store
        self.side = image_size
        self.augmentation = augmentation
        self.without_mosaic = replace(augmentation, mosaic=0.0)
        self.mosaic_epochs = mosaic_epochs
        self.seed = seed
        self.frames = frames
        self.pool = np.arange(len(store.index)) if pool is None else pool
        self.filters = filters
        scale = store.sizes / store.index.sizes
        per_box = np.repeat(scale, np.diff(store.index.offsets), axis=0)
        # Boxes in pixels of the stored pictures; (x, y) scales, so columns turn round.
        boxes = store.index.boxes * per_box[:, [1, 0, 1, 0]].astype(np.float32)
        self.index = replace(store.index, boxes=boxes)

    def __len__(self) -> int:
        """The number of images."""
        return len(self.index)

    def __getitem__(self, key: Key) -> Sample:
        """The sample of `key`: (epoch, image) or (epoch, image, repeat)."""
        epoch, image = key[:2]
        generator = numpy_generator(self.seed, *key)
        closing = self.mosaic_epochs is not None and epoch >= self.mosaic_epochs
        augmentation = self.without_mosaic if closing else self.augmentation
        draw = draw_sample(image, self.pool, self.side, augmentation, generator)
        pictures, boxes, classes = [], [], []
        for position in draw.needed:
            picture = self.store.picture(position)
            own = slice(None) if picture is not None else slice(0)
            if picture is None:
                picture = np.full((*self.store.size(position), 3), FILL, np.uint8)
            pictures.append(picture)
            boxes.append(self.index.boxes_of(position)[own])
            classes.append(self.index.classes_of(position)[own])
        frame = None if self.frames is None else (*self.frames[image].tolist(),)
        planes, targets = apply_sample(
            draw, pictures, boxes, classes, self.side, frame=frame, filters=self.filters
        )
        return torch.from_numpy(planes), add_batch_index(0, targets)


class TrainingLoader(DataLoader[Sample]):
    """A DataLoader over a TrainingDataset that says which images it had to leave out."""

    bad: tuple[BadImage, ...] = ()
    kept: bool = False
    """Whether no file is read any more."""
    order: TrainingSampler | RectangularBatches

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch that the next pass belongs to."""
        self.order.set_epoch(epoch)

    def weigh(self, metrics: ClassMetrics) -> None:
        """Hear how well the classes are found; it counts where images are drawn by weight."""
        if isinstance(self.order, WeightedSampler):
            classes = len(self.order.index.class_names)
            self.order.weigh(class_average_precision(metrics, classes))


def training_loader(
    index: DatasetIndex,
    *,
    image_size: int,
    batch_size: int,
    seed: int,
    augmentation: Augmentation,
    workers: int = -1,
    cache: str = "ram",
    cache_dir: str = "",
    device: torch.device | None = None,
    rank: int = 0,
    world: int = 1,
    local_world_size: int = 1,
    tell: Tell | None = None,
    arrangement: BatchingConfig | None = None,
    stride: int = 32,
) -> TrainingLoader:
    """Augmented batches of a data set, put together as `arrangement` says (by default shuffled).

    `workers` -1 lets the machine decide. With `cache` 'ram' or 'disk' (a nameless file in
    `cache_dir`) all images are decoded before this returns, and `tell(done, total)` hears of
    each; images that fail are dropped, named in the log, and listed in the loader's `bad`. Raises
    TaskError when none is left, or when an optional package that the augmentation asks for is
    missing. `stride` is that of rectangular frames, `local_world_size` the number of
    processes that share the machine's CPUs. Call `set_epoch` before each pass.
    """
    device = device or torch.device("cpu")
    arrangement = arrangement or BatchingConfig()
    filters = PixelFilters() if augmentation.albumentations else None
    store, bad = open_store(
        index, image_size, cache=cache, folder=cache_dir, threads=thread_count(), tell=tell
    )
    if not len(store.index):
        raise TaskError(
            Code.DATASET,
            f"none of the {len(index)} training images can be used: check the files named above.",
        )
    pool = shared_positions(len(store.index))
    order, frames = _order(
        store.index,
        pool,
        arrangement,
        image_size=image_size,
        batch_size=batch_size,
        stride=stride,
        seed=seed,
        rank=rank,
        world=world,
    )
    dataset = TrainingDataset(
        store,
        image_size=image_size,
        augmentation=augmentation,
        seed=seed,
        mosaic_epochs=0 if frames is not None else arrangement.mosaic_epochs,
        frames=frames,
        pool=pool,
        filters=filters,
    )
    batch_bytes = batch_size * 3 * image_size**2
    workers = worker_count(
        workers, batch_bytes=batch_bytes, device=device, local_world_size=local_world_size
    )
    loader = _loader(
        QuadDataset(dataset, seed=seed) if arrangement.quad else dataset,
        _batching(order, batch_size, quad=arrangement.quad),
        workers=workers,
        pinned=device.type == "cuda",
        seed=seed,
    )
    loader.bad = tuple(bad)
    loader.kept = store.pixels is not None
    loader.order = order
    return loader


def _loader(
    samples: Dataset[Sample], batching: dict[str, Any], *, workers: int, pinned: bool, seed: int
) -> TrainingLoader:
    return TrainingLoader(
        samples,
        **batching,
        num_workers=workers,
        collate_fn=collate,
        pin_memory=pinned,
        persistent_workers=workers > 0,
        prefetch_factor=PREFETCH if workers else None,
        multiprocessing_context="fork" if workers else None,
        worker_init_fn=prepare_worker,
        generator=torch_generator(seed),
    )


def _order(
    index: DatasetIndex,
    pool: Positions,
    arrangement: BatchingConfig,
    *,
    image_size: int,
    batch_size: int,
    stride: int,
    seed: int,
    rank: int,
    world: int,
) -> tuple[TrainingSampler | RectangularBatches, Positions | None]:
    """The order of an epoch, and the frame of each image [n, 2] where batches are rectangular."""
    if arrangement.image_weights:
        return WeightedSampler(index, pool, seed=seed, rank=rank, world=world), None
    if not arrangement.rect:
        return TrainingSampler(len(index), seed=seed, rank=rank, world=world), None
    order, batch_of, shapes = rectangular_shapes(
        index.sizes, image_size=image_size, batch_size=batch_size, stride=stride, pad=0.0
    )
    frames = np.empty_like(shapes, shape=(len(index), 2))
    frames[order] = shapes[batch_of]
    return RectangularBatches(order, batch_size, rank=rank, world=world), frames


def _batching(
    order: TrainingSampler | RectangularBatches, batch_size: int, *, quad: bool
) -> dict[str, Any]:
    """How a DataLoader is told its batches."""
    if isinstance(order, TrainingSampler) and not quad:
        return {"sampler": order, "batch_size": batch_size}
    batches: Sampler[Any] = order
    if isinstance(order, TrainingSampler):
        batches = BatchSampler(batches, batch_size, drop_last=False)
    return {"batch_sampler": QuadBatchSampler(batches) if quad else batches}
