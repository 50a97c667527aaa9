"""What the loaders hand out: batches of images with their targets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from ops.letterbox import Letterbox

Sample = tuple[Tensor, Tensor]
"""An image uint8 [3, h, w] in RGB, and its targets float32 [k, 6] with 0 in column 0."""


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
    it is. An image that cannot be read is left out. `number` counts the batches of a split.
    """

    images: Tensor
    plans: tuple[Letterbox, ...]
    indices: tuple[int, ...]
    targets: Tensor
    number: int = 0

    def pin_memory(self) -> EvaluationBatch:
        """The batch with its tensors in page-locked memory."""
        return replace(self, images=self.images.pin_memory(), targets=self.targets.pin_memory())


def collate(samples: Sequence[Sample]) -> Batch:
    """One batch of samples; column 0 of the targets becomes the place in the batch."""
    targets = [own.clone() for _, own in samples]
    for place, own in enumerate(targets):
        own[:, 0] = place
    return Batch(torch.stack([image for image, _ in samples]), torch.cat(targets))


def add_batch_index(place: int, targets: np.ndarray) -> Tensor:
    """Targets [k, 5] with the place in the batch put in front: [k, 6]."""
    placed = np.full((len(targets), 6), place, np.float32)
    placed[:, 1:] = targets
    return torch.from_numpy(placed)
