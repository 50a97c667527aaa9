"""Every labelled image once, letterboxed in batches of like shape, for an evaluation."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import replace
from typing import TypeVar

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from data.augmentations import normalised_targets, to_chw_rgb
from data.batches import EvaluationBatch, add_batch_index
from data.dataset_index import DatasetIndex
from data.image_cache import fits_in_memory
from data.images import ImageError, read_image
from data.workers import PREFETCH, prepare_worker, worker_count
from ops.letterbox import (
    apply_evaluation,
    boxes_to_network,
    plan_evaluation,
    rectangular_shapes,
)
from utils.distributed import SINGLE_PROCESS, DistContext
from utils.seeding import torch_generator

log = logging.getLogger(__name__)

T = TypeVar("T")


class EvaluationDataset(Dataset[EvaluationBatch]):
    """Whole batches of images of like shape, each letterboxed into its batch's frame as in v7.0."""

    def __init__(
        self,
        index: DatasetIndex,
        *,
        image_size: int,
        batch_size: int,
        stride: int = 32,
        pad: float = 0.5,
    ) -> None:
        self.index = index
        self.image_size = image_size
        self.batch_size = batch_size
        self.order, _, self.shapes = rectangular_shapes(
            index.sizes, image_size=image_size, batch_size=batch_size, stride=stride, pad=pad
        )

    def __len__(self) -> int:
        """The number of batches."""
        return len(self.shapes)

    def bytes_of(self, number: int) -> int:
        """Bytes of the images of one batch."""
        height, width = (int(side) for side in self.shapes[number])
        members = min(self.batch_size, len(self.index) - number * self.batch_size)
        return members * 3 * height * width

    def __getitem__(self, number: int) -> EvaluationBatch:
        """One batch; images that cannot be read are named in the log and left out."""
        start = number * self.batch_size
        height, width = (int(side) for side in self.shapes[number])
        planes: list[Tensor] = []
        plans, indices, targets = [], [], []
        for position in self.order[start : start + self.batch_size].tolist():
            try:
                image = read_image(self.index.paths[position])
            except ImageError as error:
                log.warning("image left out: %s", error)
                continue
            size = (image.shape[0], image.shape[1])
            plan = plan_evaluation(size, self.image_size, (height, width))
            boxes = boxes_to_network(self.index.boxes_of(position), plan)
            own = normalised_targets(boxes, self.index.classes_of(position), (height, width))
            targets.append(add_batch_index(len(planes), own))
            planes.append(torch.from_numpy(to_chw_rgb(apply_evaluation(image, plan))))
            plans.append(plan)
            indices.append(position)
        return EvaluationBatch(
            images=torch.stack(planes) if planes else torch.zeros((0, 3, height, width)).byte(),
            plans=tuple(plans),
            indices=tuple(indices),
            targets=torch.cat(targets) if targets else torch.zeros((0, 6)),
            number=number,
        )


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
            num_workers=workers,
            collate_fn=_as_it_is,
            pin_memory=pin,
            prefetch_factor=PREFETCH if workers else None,
            multiprocessing_context="fork" if workers else None,
            worker_init_fn=prepare_worker,
            generator=torch_generator(0),
        )

    @property
    def kept(self) -> bool:
        """Whether no file is read any more."""
        return self._kept is not None

    def __len__(self) -> int:
        """The number of batches, counting those that may turn out empty."""
        return len(self.numbers)

    def __iter__(self) -> Iterator[EvaluationBatch]:
        """One pass over them."""
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
    *,
    image_size: int,
    batch_size: int,
    stride: int = 32,
    pad: float = 0.5,
    workers: int = -1,
    cache: str = "none",
    device: torch.device | None = None,
    processes: DistContext = SINGLE_PROCESS,
) -> EvaluationLoader:
    """Every image of a data set once, letterboxed in rectangular batches; nothing is random.

    With `cache` 'ram' or 'val' the finished batches are kept for the next pass, if they fit into
    memory. Of several processes each has every so many-th of the batches that one would have.
    """
    device = device or torch.device("cpu")
    dataset = EvaluationDataset(
        index, image_size=image_size, batch_size=batch_size, stride=stride, pad=pad
    )
    numbers = range(processes.rank, len(dataset), processes.world_size)
    sizes = [dataset.bytes_of(number) for number in numbers]
    local_world_size = processes.local_world_size
    keep = cache in ("ram", "val") and fits_in_memory(
        sum(sizes) * local_world_size, f"{len(index)} evaluation images"
    )
    workers = worker_count(
        workers, batch_bytes=max(sizes, default=0), device=device, local_world_size=local_world_size
    )
    return EvaluationLoader(dataset, numbers, workers=workers, pin=device.type == "cuda", keep=keep)


def _as_it_is(batch: T) -> T:
    return batch
