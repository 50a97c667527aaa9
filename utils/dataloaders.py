"""Batches on their way to the network, and decoded images on their way to inference.

Nothing random depends on the number of workers: each sample has its own generator, made of the
seed, the epoch and the image.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from utils.augment import Augmentation, apply_sample, draw_sample, normalised_targets, planes_rgb
from utils.errors import Code, TaskError
from utils.image_cache import BadImage, PictureStore, Tell, fits_in_memory, open_store
from utils.images import ImageError, Pixels, read_image
from utils.labels import DatasetIndex
from utils.letterbox import (
    Letterbox,
    apply_evaluation,
    boxes_to_network,
    plan_evaluation,
    rectangular_shapes,
)
from utils.mosaic import FILL
from utils.seeding import numpy_generator, torch_generator
from utils.workers import PREFETCH, prepare_worker, thread_count, worker_count

log = logging.getLogger(__name__)

T = TypeVar("T")
Sample = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Batch:
    """A training batch: images uint8 [b, 3, h, w] in RGB; targets float32 [t, 6].

    A target is (image in the batch, class, cx, cy, w, h), normalised to the image.
    """

    images: Tensor
    targets: Tensor

    def pin_memory(self) -> Batch:
        """The batch in page-locked memory, for copies to the GPU that wait for nobody."""
        return Batch(self.images.pin_memory(), self.targets.pin_memory())


@dataclass(frozen=True)
class EvaluationBatch:
    """A batch of letterboxed images as they are: images and targets as in Batch.

    `plans` say where each image lies in its network input, `indices` which image of the data set
    it is. An image that cannot be read is left out.
    """

    images: Tensor
    plans: tuple[Letterbox, ...]
    indices: tuple[int, ...]
    targets: Tensor

    def pin_memory(self) -> EvaluationBatch:
        """The batch with its tensors in page-locked memory."""
        return replace(self, images=self.images.pin_memory(), targets=self.targets.pin_memory())


@dataclass(frozen=True)
class DecodedImage:
    """One image of a stream: BGR uint8 [h, w, 3], or None and the reason in `error`."""

    position: int
    path: str
    image: Pixels | None
    error: str | None = None


class TrainingDataset(Dataset[Sample]):
    """Augmented samples by (epoch, image): image uint8 [3, side, side], targets float32 [k, 6].

    Column 0 of the targets is left 0 for the place in the batch. The same key gives the same
    sample, whoever asks.
    """

    def __init__(
        self, store: PictureStore, *, image_size: int, augmentation: Augmentation, seed: int
    ) -> None:
        self.store = store
        self.side = image_size
        self.augmentation = augmentation
        self.seed = seed
        scale = store.sizes / store.index.sizes
        per_box = np.repeat(scale, np.diff(store.index.offsets), axis=0)
        # Boxes in pixels of the stored pictures; (x, y) scales, so columns turn round.
        boxes = store.index.boxes * per_box[:, [1, 0, 1, 0]].astype(np.float32)
        self.index = replace(store.index, boxes=boxes)

    def __len__(self) -> int:
        """The number of images."""
        return len(self.index)

    def __getitem__(self, key: tuple[int, int]) -> Sample:
        """The sample of `key`: (epoch, image)."""
        epoch, image = key
        generator = numpy_generator(self.seed, epoch, image)
        draw = draw_sample(image, len(self), self.side, self.augmentation, generator)
        pictures, boxes, classes = [], [], []
        for position in draw.pictures:
            picture = self.store.picture(position)
            own = slice(None) if picture is not None else slice(0)
            if picture is None:
                picture = np.full((*self.store.size(position), 3), FILL, np.uint8)
            pictures.append(picture)
            boxes.append(self.index.boxes_of(position)[own])
            classes.append(self.index.classes_of(position)[own])
        planes, targets = apply_sample(draw, pictures, boxes, classes, self.side)
        return torch.from_numpy(planes), _in_batch(0, targets)


class TrainingSampler(Sampler[tuple[int, int]]):
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

    def __iter__(self) -> Iterator[tuple[int, int]]:
        """The keys of one epoch."""
        order = numpy_generator(self.seed, self.epoch).permutation(self.count)
        own = np.resize(order, len(self) * self.world)[self.rank :: self.world]
        return ((self.epoch, int(image)) for image in own)


class TrainingLoader(DataLoader[Sample]):
    """A DataLoader over a TrainingDataset that says which images it had to leave out."""

    bad: tuple[BadImage, ...] = ()

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch that the next pass belongs to."""
        assert isinstance(self.sampler, TrainingSampler)
        self.sampler.set_epoch(epoch)


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
            targets.append(_in_batch(len(planes), own))
            planes.append(torch.from_numpy(planes_rgb(apply_evaluation(image, plan))))
            plans.append(plan)
            indices.append(position)
        return EvaluationBatch(
            images=torch.stack(planes) if planes else torch.zeros((0, 3, height, width)).byte(),
            plans=tuple(plans),
            indices=tuple(indices),
            targets=torch.cat(targets) if targets else torch.zeros((0, 6)),
        )


class EvaluationLoader:
    """The batches of an EvaluationDataset, in order; batches without a readable image are skipped.

    With `keep` the batches of the first full pass stay in memory and later passes read no file.
    """

    def __init__(self, dataset: EvaluationDataset, *, workers: int, pin: bool, keep: bool) -> None:
        self.dataset = dataset
        self.keep = keep
        self._kept: list[EvaluationBatch] | None = None
        self._loader: DataLoader[EvaluationBatch] = DataLoader(
            dataset,
            batch_size=None,
            num_workers=workers,
            collate_fn=_as_it_is,
            pin_memory=pin,
            prefetch_factor=PREFETCH if workers else None,
            multiprocessing_context="fork" if workers else None,
            worker_init_fn=prepare_worker,
            generator=torch_generator(0),
        )

    def __len__(self) -> int:
        """The number of batches, counting those that may turn out empty."""
        return len(self.dataset)

    def __iter__(self) -> Iterator[EvaluationBatch]:
        """One pass over the data set."""
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


def training_loader(
    index: DatasetIndex,
    *,
    image_size: int,
    batch_size: int,
    seed: int,
    augmentation: Augmentation,
    workers: int = -1,
    cache: str = "ram",
    device: torch.device | None = None,
    rank: int = 0,
    world: int = 1,
    tell: Tell | None = None,
) -> TrainingLoader:
    """Shuffled, augmented batches of a data set; `workers` -1 lets the machine decide.

    With `cache` 'ram' all images are decoded before this returns, and `tell(done, total)` hears of
    each; images that fail are dropped, named in the log, and listed in the loader's `bad`. Raises
    TaskError when none is left. Call `set_epoch` before each pass.
    """
    device = device or torch.device("cpu")
    store, bad = open_store(
        index, image_size, memory=cache == "ram", threads=thread_count(), tell=tell
    )
    if not len(store.index):
        raise TaskError(
            Code.DATASET,
            f"none of the {len(index)} training images can be used: check the files named above.",
        )
    dataset = TrainingDataset(store, image_size=image_size, augmentation=augmentation, seed=seed)
    batch_bytes = batch_size * 3 * image_size**2
    workers = worker_count(workers, batch_bytes=batch_bytes, device=device)
    loader = TrainingLoader(
        dataset,
        batch_size=batch_size,
        sampler=TrainingSampler(len(dataset), seed=seed, rank=rank, world=world),
        num_workers=workers,
        collate_fn=collate,
        pin_memory=device.type == "cuda",
        persistent_workers=workers > 0,
        prefetch_factor=PREFETCH if workers else None,
        multiprocessing_context="fork" if workers else None,
        worker_init_fn=prepare_worker,
        generator=torch_generator(seed),
    )
    loader.bad = tuple(bad)
    return loader


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
) -> EvaluationLoader:
    """Every image of a data set once, letterboxed in rectangular batches; nothing is random.

    With `cache` 'ram' the finished batches are kept for the next pass, if they fit into memory.
    """
    device = device or torch.device("cpu")
    dataset = EvaluationDataset(
        index, image_size=image_size, batch_size=batch_size, stride=stride, pad=pad
    )
    sizes = [dataset.bytes_of(number) for number in range(len(dataset))]
    keep = cache == "ram" and fits_in_memory(sum(sizes), f"{len(index)} evaluation images")
    workers = worker_count(workers, batch_bytes=max(sizes, default=0), device=device)
    return EvaluationLoader(dataset, workers=workers, pin=device.type == "cuda", keep=keep)


def stream_images(
    paths: Sequence[str], *, workers: int = -1, prefetch: int = 16
) -> Iterator[DecodedImage]:
    """Decode files in the order given, at most `prefetch` of them ahead of the consumer.

    Threads, not processes: OpenCV decodes without holding the interpreter's lock, nothing has to
    be copied between processes, and /dev/shm, which is small in many containers, is not needed.
    A file that fails comes with `image` None and the reason in `error`. `workers` -1: one thread
    per CPU, at most 8.
    """
    threads = workers if workers > 0 else thread_count()
    waiting: deque[Future[DecodedImage]] = deque()
    pool = ThreadPoolExecutor(threads)
    try:
        for position, path in enumerate(paths):
            waiting.append(pool.submit(_decode, position, path))
            if len(waiting) >= max(prefetch, 1):
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def collate(samples: Sequence[Sample]) -> Batch:
    """One batch of samples; column 0 of the targets becomes the place in the batch."""
    targets = [own.clone() for _, own in samples]
    for place, own in enumerate(targets):
        own[:, 0] = place
    return Batch(torch.stack([image for image, _ in samples]), torch.cat(targets))


def _in_batch(place: int, targets: np.ndarray) -> Tensor:
    """Targets [k, 5] with the place in the batch put in front: [k, 6]."""
    placed = np.full((len(targets), 6), place, np.float32)
    placed[:, 1:] = targets
    return torch.from_numpy(placed)


def _decode(position: int, path: str) -> DecodedImage:
    try:
        return DecodedImage(position, path, read_image(path))
    except ImageError as error:
        return DecodedImage(position, path, None, error.reason)
    except MemoryError:
        return DecodedImage(position, path, None, "not enough memory to decode it")


def _as_it_is(batch: T) -> T:
    return batch
