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

    def resize(self, images: Tensor, epoch: int, step: int) -> Tensor:
        """Resize float images [b, c, h, w] bilinearly to the step's size, on their device."""
        shape = (images.shape[2], images.shape[3])
        target = scaled_shape(shape, self.size(epoch, step), self.stride)
        if target == shape:
            return images
        return functional.interpolate(images, size=target, mode="bilinear", align_corners=False)


def scaled_shape(shape: tuple[int, int], longest: int, stride: int) -> tuple[int, int]:
    """Scale (height, width) to a longer side of `longest`, rounded up to multiples of `stride`.

    In whole numbers: v7.0 divides floats, which may round a side up once too often.
    """
    height, width = shape
    unit = max(shape) * stride
    return -(-height * longest // unit) * stride, -(-width * longest // unit) * stride
