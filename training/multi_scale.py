"""Another image size for every training batch, the same in every process."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional

from utils.seeding import numpy_generator

_SIZE = -2


@dataclass(frozen=True)
class MultiScale:
    """Sizes from half to one and a half times `image_size`, multiples of `stride`, as in v7.0."""

    image_size: int
    stride: int
    seed: int

    def size(self, epoch: int, step: int) -> int:
        """The longer side that the batch of a step is brought to, in pixels; at least two strides.

        (Below, which v7.0 allows, a batch of one image would be a single cell, which batch
        normalisation refuses.)
        """
        side, stride = self.image_size, self.stride
        generator = numpy_generator(self.seed, epoch, step, _SIZE)
        drawn = int(generator.integers(side // 2, side + side // 2 + stride))
        return max(drawn // stride, 2) * stride

    def resize(self, images: Tensor, epoch: int, step: int) -> Tensor:
        """Float images [b, c, h, w] of a step at its size: bilinear, on the device they are on."""
        shape = (images.shape[2], images.shape[3])
        wanted = scaled_shape(shape, self.size(epoch, step), self.stride)
        if wanted == shape:
            return images
        return functional.interpolate(images, size=wanted, mode="bilinear", align_corners=False)


def scaled_shape(shape: tuple[int, int], longest: int, stride: int) -> tuple[int, int]:
    """(height, width) with the longer side at `longest`, both rounded up to multiples of `stride`.

    Whole numbers throughout: v7.0 divides floats, which may round a side up once too often.
    """
    height, width = shape
    unit = max(shape) * stride
    return -(-height * longest // unit) * stride, -(-width * longest // unit) * stride
