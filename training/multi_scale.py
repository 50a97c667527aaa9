"""Multi-scale training: another image size for every batch, the same on every rank."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional

from utils.seeding import numpy_generator

_SIZE = -2


@dataclass(frozen=True)
class MultiScale:
    """Image sizes from half to one and a half times `image_size`, multiples of `stride` (v7.0)."""

    image_size: int
    stride: int
    seed: int

    def size(self, epoch: int, step: int) -> int:
        """Return the longer side in pixels of a step's batch; at least two strides.

        Smaller ones, which v7.0 allows, make a single cell of an image, which batch normalisation
        refuses.
        """
        side, stride = self.image_size, self.stride
        generator = numpy_generator(self.seed, epoch, step, _SIZE)
        drawn = int(generator.integers(side // 2, side + side // 2 + stride))
        return max(drawn // stride, 2) * stride

    def shape(self, shape: tuple[int, int], epoch: int, step: int) -> tuple[int, int]:
        """Return (height, width) of a step's batch, whose images come with those of `shape`."""
        return scaled_shape(shape, self.size(epoch, step), self.stride)


def resize(images: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize float images [b, c, h, w] bilinearly to (height, width), on their device."""
    if (images.shape[2], images.shape[3]) == size:
        return images
    return functional.interpolate(images, size=size, mode="bilinear", align_corners=False)


def scaled_shape(shape: tuple[int, int], longest: int, stride: int) -> tuple[int, int]:
    """Scale (height, width) to a longer side of `longest`, rounded up to multiples of `stride`.

    In whole numbers: v7.0 divides floats, which may round a side up once too often.
    """
    height, width = shape
    unit = max(shape) * stride
    return -(-height * longest // unit) * stride, -(-width * longest // unit) * stride
