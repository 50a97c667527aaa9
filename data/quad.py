"""Four training samples as one of twice the side: YOLOv5 v7.0's quad batches."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.nn import functional
from torch.utils.data import Dataset

from data.batches import Sample
from data.samplers import Key
from utils.seeding import numpy_generator

LOSS_FACTOR = 4
"""v7.0 multiplies the loss by it: a quarter of the images stands for as many objects."""
_COIN = -1


class QuadDataset(Dataset[Sample]):
    """Samples of twice the side by four keys: the four side by side, or the first one enlarged.

    Which of the two is drawn from the seed and the first key, half and half. Fewer than four keys
    (the end of an epoch) always give the first one enlarged.
    """

    def __init__(self, samples: Dataset[Sample], *, seed: int) -> None:
        self.samples = samples
        self.seed = seed

    def __getitem__(self, keys: Sequence[Key]) -> Sample:
        """The sample of up to four keys."""
        coin = numpy_generator(self.seed, *keys[0], _COIN).random()
        if len(keys) < 4 or coin < 0.5:
            return enlarge(self.samples[keys[0]])
        return join([self.samples[key] for key in keys])


def enlarge(sample: Sample) -> Sample:
    """Twice the side, bilinear, levels cut off; targets are fractions of the image and stay."""
    image, targets = sample
    doubled = functional.interpolate(
        image[None].float(), scale_factor=2.0, mode="bilinear", align_corners=False
    )
    return doubled[0].to(torch.uint8), targets


def join(samples: Sequence[Sample]) -> Sample:
    """Four samples of one size: the second below the first, the others to the right of those."""
    first, second, third, fourth = (image for image, _ in samples)
    columns = (torch.cat((first, second), 1), torch.cat((third, fourth), 1))
    targets = [own.clone() for _, own in samples]
    for place, own in enumerate(targets):
        right, below = divmod(place, 2)
        own[:, 2] += right
        own[:, 3] += below
        own[:, 2:] /= 2
    return torch.cat(columns, 2), torch.cat(targets)
