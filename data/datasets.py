"""Batches, and the datasets of training samples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.data import Dataset

from data.augmentations import (
    Augmentation,
    AugmentationParams,
    Filters,
    apply_augmentation,
    sample_augmentation,
)
from data.image_cache import ImageCache
from data.images import Pixels
from data.instances import Instances
from ops.letterbox import PAD_VALUE, Letterbox
from utils.seeding import numpy_generator

Key = tuple[int, ...]
"""A training sample: (epoch, image) or (epoch, image, repeat)."""
Positions = npt.NDArray[np.int64]
AnyBatch = TypeVar("AnyBatch", bound="Batch")
Sample = tuple[Tensor, Tensor]
"""An image uint8 [3, h, w] in RGB, and its targets float32 [k, 6] with 0 in column 0."""

QUAD_LOSS_FACTOR = 4
"""v7.0 multiplies the loss of quad batches by it: a quarter of the images has as many objects."""
_QUAD_CHOICE = -1  # appended to a sample's key, for a random stream of its own


@dataclass(frozen=True)
class Batch:
    """A training batch: images uint8 [b, 3, h, w] in RGB; targets float32 [t, 6].

    A target is (image in the batch, class, cx, cy, w, h), normalised to the image.
    """

    images: Tensor
    targets: Tensor

    def pin_memory(self: AnyBatch) -> AnyBatch:
        """Return the batch in page-locked memory, for asynchronous copies to the GPU."""
        return replace(self, images=self.images.pin_memory(), targets=self.targets.pin_memory())


@dataclass(frozen=True)
class EvaluationBatch(Batch):
    """A batch of letterboxed images without augmentation.

    `plans` say where each image lies in its network input, `indices` which image of the data set
    it is. An image that cannot be read is left out. `number` counts the batches of a split, and
    `seconds` is the time that reading, decoding and letterboxing took.
    """

    plans: tuple[Letterbox, ...]
    indices: tuple[int, ...]
    number: int
    seconds: float = 0.0


def collate(samples: Sequence[Sample]) -> Batch:
    """Return one batch of samples; column 0 of the targets becomes the place in the batch."""
    targets = joined_targets([rows for _, rows in samples])
    return Batch(torch.stack([image for image, _ in samples]), targets)


def joined_targets(parts: Sequence[Tensor]) -> Tensor:
    """Return the targets [t, 6] of a batch; column 0 becomes the place in it."""
    targets = [rows.clone() for rows in parts]
    for place, rows in enumerate(targets):
        rows[:, 0] = place
    return torch.cat(targets)


def add_batch_index(place: int, targets: npt.NDArray[np.float32]) -> Tensor:
    """Return targets [k, 6]: the place in the batch, then `targets` [k, 5]."""
    return torch.cat((torch.full((len(targets), 1), float(place)), torch.from_numpy(targets)), 1)


@dataclass(eq=False)
class TrainingDataset(Dataset[Sample]):
    """Augmented samples by key: image uint8 [3, side, side], targets float32 [k, 6].

    The same key gives the same sample in any process. `output_sizes` [n, 2] are (height, width) of
    the samples of rectangular batches. `mosaic_candidates` [n] are the images that mosaics may
    add, which may change between epochs; from epoch `mosaic_epochs` on there are no mosaics.
    """

    images: ImageCache
    image_size: int
    augmentation: Augmentation
    seed: int
    mosaic_epochs: int | None
    output_sizes: Positions | None
    mosaic_candidates: Positions
    filters: Filters | None

    def __post_init__(self) -> None:
        self.without_mosaic = replace(self.augmentation, mosaic=0.0)
        index = self.images.index
        per_box = (self.images.sizes / index.sizes)[index.owners()]
        # Boxes in pixels of the resized images; (x, y) scales, so columns turn round.
        boxes = index.boxes * per_box[:, [1, 0, 1, 0]].astype(np.float32)
        self.index = replace(index, instances=index.instances.with_boxes(boxes))

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, key: Key) -> Sample:
        """Return the sample of a key."""
        params, output_size = self.draw(key)
        images, instances = zip(*map(self.load, params.all_images), strict=True)
        planes, targets = apply_augmentation(
            params, images, instances, output_size, filters=self.filters
        )
        return torch.from_numpy(planes), add_batch_index(0, targets)

    def draw(self, key: Key) -> tuple[AugmentationParams, tuple[int, int]]:
        """Return everything random about a key's sample, and its size (height, width)."""
        epoch, image = key[:2]
        generator = numpy_generator(self.seed, *key)
        closing = self.mosaic_epochs is not None and epoch >= self.mosaic_epochs
        augmentation = self.without_mosaic if closing else self.augmentation
        params = sample_augmentation(
            image, self.mosaic_candidates, self.image_size, augmentation, generator
        )
        output_size = (self.image_size, self.image_size)
        if self.output_sizes is not None:
            output_size = int(self.output_sizes[image, 0]), int(self.output_sizes[image, 1])
        return params, output_size

    def load(self, position: int) -> tuple[Pixels, Instances]:
        """Return one resized image and its objects; grey without objects for a bad file."""
        pixels, instances = self.images.image(position), self.index.instances_of(position)
        if pixels is None:
            grey = np.full((*self.images.size(position), 3), PAD_VALUE, np.uint8)
            return grey, instances.take(slice(0))
        return pixels, instances


class QuadDataset(Dataset[Sample]):
    """v7.0's quad samples: four samples side by side, or the first one enlarged to twice the side.

    Which of the two is drawn from the seed and the first key, half and half. Fewer than four keys
    (the end of an epoch) always give the first one enlarged.
    """

    def __init__(self, samples: Dataset[Sample], *, seed: int) -> None:
        self.samples = samples
        self.seed = seed

    def __getitem__(self, keys: Sequence[Key]) -> Sample:
        """Return the sample of up to four keys."""
        samples = [self.samples[key] for key in quad_keys(keys, seed=self.seed)]
        images, targets = zip(*samples, strict=True)
        if len(samples) == 1:
            return enlarge(images[0]), targets[0]
        return join(images), quad_targets(targets)


def quad_keys(keys: Sequence[Key], *, seed: int) -> Sequence[Key]:
    """Return the keys of a quad sample: all four, or the first one, which is to be enlarged."""
    choice = numpy_generator(seed, *keys[0], _QUAD_CHOICE).random()
    return keys[:1] if len(keys) < 4 or choice < 0.5 else keys


def enlarge(image: Tensor) -> Tensor:
    """Return an image uint8 [3, h, w] of twice the side, bilinear, levels cut off."""
    doubled = functional.interpolate(
        image[None].float(), scale_factor=2.0, mode="bilinear", align_corners=False
    )
    return doubled[0].to(torch.uint8)


def join(images: Sequence[Tensor]) -> Tensor:
    """Join four images of one size: the second below the first, the others to their right."""
    first, second, third, fourth = images
    return torch.cat((torch.cat((first, second), 1), torch.cat((third, fourth), 1)), 2)


def quad_targets(parts: Sequence[Tensor]) -> Tensor:
    """Return the targets of four joined samples, in the order of `join`."""
    targets = [rows.clone() for rows in parts]
    for place, rows in enumerate(targets):
        right, below = divmod(place, 2)
        rows[:, 2] += right
        rows[:, 3] += below
        rows[:, 2:] /= 2
    return torch.cat(targets)
