"""The loaders of training and evaluation.

Nothing random depends on the number of workers: each sample has a generator of its own, made of
the seed, the epoch and the image.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from time import perf_counter
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import BatchSampler, DataLoader, Dataset, Sampler

from data.augmentations import Augmentation, PixelFilters, normalised_targets, to_chw_rgb
from data.dataset_index import DatasetIndex
from data.datasets import (
    Batch,
    EvaluationBatch,
    Positions,
    QuadDataset,
    TrainingDataset,
    add_batch_index,
    collate,
)
from data.device_augment import DeviceAugmenter
from data.image_cache import ImageCache, fits_in_memory, open_image_cache
from data.images import ImageError, read_image
from data.plans import PlanCollate, PlannedDataset
from data.samplers import (
    BatchingConfig,
    QuadBatchSampler,
    RectangularBatches,
    TrainingSampler,
    WeightedSampler,
    shared_positions,
)
from data.workers import PREFETCH, limit_worker_threads, worker_count
from ops.letterbox import apply_evaluation, boxes_to_network, plan_evaluation, rectangular_shapes
from utils.distributed import SINGLE_PROCESS, DistContext
from utils.errors import Code, TaskError
from utils.seeding import torch_generator

log = logging.getLogger(__name__)


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
    """'auto', 'gpu', 'ram', 'disk' or 'val': where decoded images (of evaluation: batches) are
    kept, if at all."""
    cache_dir: str = ""
    """Folder of the nameless file of 'disk'; '' for the system's temporary one."""
    on_gpu: bool = False
    """Whether batches are going to a GPU: then they lie in pinned memory."""
    augment_on: torch.device | None = None
    """Where training images are augmented; None: on the host, by OpenCV."""
    device_share: float = 0.3
    """Part of the free memory there that decoded images may take."""


class TrainingLoader(DataLoader[Any]):
    """A DataLoader of augmented batches; call `set_epoch` before each pass.

    With `augment` the samples are plans, from which it makes the batches, on its device.
    """

    def __init__(
        self,
        samples: Dataset[Any],
        order: TrainingSampler | RectangularBatches,
        *,
        cached: bool,
        augment: DeviceAugmenter | None,
        **options: Any,
    ) -> None:
        self.order = order
        self.cached = cached
        """Whether no file is read any more."""
        self.augment = augment
        super().__init__(samples, **options)

    def __iter__(self) -> Iterator[Batch]:  # type: ignore[override]
        """Return the batches of the epoch."""
        batches = self.on_host()
        return batches if self.augment is None else map(self.augment, batches)

    def on_host(self) -> Iterator[Any]:
        """Return what the host makes of the epoch's batches: themselves, or their plans."""
        return super().__iter__()

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
    images: ImageCache | None = None,
) -> TrainingLoader:
    """Return a loader of augmented batches.

    Where decoded images are kept, all are decoded before this returns; images that fail are
    dropped and named in the log. Raises TaskError when none is left, or when an optional package
    that the augmentation asks for is missing. Each of several processes gets its shard. `images`
    are those of `training_images`, if they are open already.
    """
    batching = batching or BatchingConfig()
    filters = PixelFilters() if augmentation.albumentations else None
    images = images or training_images(index, config)
    if not len(images.index):
        raise TaskError(
            Code.DATASET,
            f"no training image can be used ({len(index):,} listed): check the files named above.",
        )
    candidates = shared_positions(len(images.index))
    order, output_sizes = _order(
        images.index, candidates, batching, config, seed=seed, processes=processes
    )
    samples = TrainingDataset(
        images,
        image_size=config.image_size,
        augmentation=augmentation,
        seed=seed,
        mosaic_epochs=0 if output_sizes is not None else batching.mosaic_epochs,
        output_sizes=output_sizes,
        mosaic_candidates=candidates,
        filters=filters,
    )
    batches: Sampler[Any] = order
    if isinstance(order, TrainingSampler):
        batches = BatchSampler(batches, config.batch_size, drop_last=False)
    if batching.quad:
        batches = QuadBatchSampler(batches)
    dataset: Dataset[Any] = samples
    join: Callable[..., Any] = collate
    augment, per_image = None, 3 * config.image_size**2
    if config.augment_on is not None:
        augment = DeviceAugmenter(config.augment_on, images.on_device)
        dataset = PlannedDataset(samples, images.rows, quad=batching.quad)
        slots = 9 if augmentation.mosaic9 > 0 else 4
        join = PlanCollate(slots, 2 * config.image_size, images.rows, quad=batching.quad)
        # What a mosaic shows of its canvas, at most all of it.
        per_image *= 0 if images.rows is not None else 8 if augmentation.mixup else 4
    elif batching.quad:
        dataset = QuadDataset(samples, seed=seed)
    options = _worker_options(config, config.batch_size * per_image, processes, seed)
    return TrainingLoader(
        dataset,
        order,
        cached=images.pixels is not None or images.on_device is not None,
        augment=augment,
        batch_sampler=batches,
        collate_fn=join,
        persistent_workers=options["num_workers"] > 0,
        **options,
    )


def training_images(index: DatasetIndex, config: LoaderConfig) -> ImageCache:
    """Return the images of a data set, decoded where `config` says that they are kept."""
    return open_image_cache(
        index,
        config.image_size,
        cache=config.cache,
        folder=config.cache_dir,
        device=config.augment_on,
        device_share=config.device_share,
    )


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
    order, batch_of, shapes = _rectangular_shapes(index, config, pad=0.0)
    output_sizes = np.empty_like(shapes, shape=(len(index), 2))
    output_sizes[order] = shapes[batch_of]
    return RectangularBatches(order, config.batch_size, rank=rank, world=world), output_sizes


def _rectangular_shapes(
    index: DatasetIndex, config: LoaderConfig, pad: float
) -> tuple[Positions, Positions, Positions]:
    return rectangular_shapes(
        index.sizes,
        image_size=config.image_size,
        batch_size=config.batch_size,
        stride=config.stride,
        pad=pad,
    )


def _worker_options(
    config: LoaderConfig, batch_bytes: int, processes: DistContext, seed: int = 0
) -> dict[str, Any]:
    """Return the options of a DataLoader for batches of so many bytes."""
    workers = worker_count(
        config.workers,
        batch_bytes=batch_bytes,
        on_gpu=config.on_gpu,
        local_world_size=processes.local_world_size,
    )
    return {
        "num_workers": workers,
        "pin_memory": config.on_gpu,
        "prefetch_factor": PREFETCH if workers else None,
        "multiprocessing_context": "fork" if workers else None,
        "worker_init_fn": limit_worker_threads,
        "generator": torch_generator(seed),
    }


class EvaluationDataset(Dataset[EvaluationBatch | None]):
    """Whole batches of images of like shape, letterboxed into the batch's shape as in v7.0."""

    def __init__(self, index: DatasetIndex, config: LoaderConfig) -> None:
        self.index = index
        self.config = config
        self.order, _, self.shapes = _rectangular_shapes(index, config, pad=0.5)

    def __len__(self) -> int:
        return len(self.shapes)

    def __getitem__(self, number: int) -> EvaluationBatch | None:
        """Return one batch, or None where no image of it can be read.

        Images that cannot be read are named in the log and left out.
        """
        began = perf_counter()
        start, count = number * self.config.batch_size, self.config.batch_size
        height, width = (int(side) for side in self.shapes[number])
        planes: list[Tensor] = []
        plans, indices, targets = [], [], []
        for position in self.order[start : start + count].tolist():
            try:
                image = read_image(self.index.paths[position], upright=self.index.upright)
            except ImageError as error:
                log.warning("image left out: %s", error)
                continue
            size = (image.shape[0], image.shape[1])
            plan = plan_evaluation(size, self.config.image_size, (height, width))
            instances = self.index.instances_of(position)
            moved = instances.with_boxes(boxes_to_network(instances.boxes, plan))
            targets.append(add_batch_index(len(planes), normalised_targets(moved, (height, width))))
            planes.append(torch.from_numpy(to_chw_rgb(apply_evaluation(image, plan))))
            plans.append(plan)
            indices.append(position)
        if not planes:
            return None
        images, joined = torch.stack(planes), torch.cat(targets)
        seconds = perf_counter() - began
        return EvaluationBatch(images, joined, tuple(plans), tuple(indices), number, seconds)


class EvaluationLoader:
    """Batches of an EvaluationDataset by `numbers`; those without a readable image are skipped.

    With `keep` the batches of the first full pass stay in memory and later passes read no file.
    """

    def __init__(
        self, dataset: EvaluationDataset, numbers: range, *, keep: bool, **options: Any
    ) -> None:
        self.numbers = numbers
        self.keep = keep
        self._kept: list[EvaluationBatch] | None = None
        self._loader = DataLoader(dataset, batch_size=None, sampler=numbers, **options)

    @property
    def cached(self) -> bool:
        """Whether no file is read any more."""
        return self._kept is not None

    def __len__(self) -> int:
        """Return the number of batches, counting those that may turn out empty."""
        return len(self.numbers)

    def __iter__(self) -> Iterator[EvaluationBatch]:
        if self._kept is not None:
            yield from self._kept
            return
        batches = []
        for batch in self._loader:
            if batch is None:
                continue
            if self.keep:
                images = batch.images
                if not images.is_pinned():  # what a worker sent lies in the scarce shared memory
                    images = images.clone()
                batches.append(replace(batch, images=images))
            yield batch
        if self.keep:
            self._kept = batches


def evaluation_loader(
    index: DatasetIndex, config: LoaderConfig, *, processes: DistContext = SINGLE_PROCESS
) -> EvaluationLoader:
    """Return a loader of every image once, letterboxed in rectangular batches as in v7.0.

    With `cache` 'auto', 'gpu', 'ram' or 'val' the finished batches are kept for the next pass, if
    they fit into memory. Each of several processes gets its shard of the batches.
    """
    dataset = EvaluationDataset(index, config)
    numbers = range(processes.rank, len(dataset), processes.world_size)
    pixels = dataset.shapes[numbers].prod(1) * min(config.batch_size, len(index))
    keep = config.cache in ("auto", "gpu", "ram", "val") and fits_in_memory(
        3 * int(pixels.sum()) * processes.local_world_size, f"{len(index)} evaluation images"
    )
    options = _worker_options(config, 3 * int(pixels.max(initial=0)), processes)
    return EvaluationLoader(dataset, numbers, keep=keep, **options)
