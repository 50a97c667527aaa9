"""A few of a task's own images as the network will see them, to try an engine on."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from data.images import ImageError, read_image
from ops.letterbox import Letterbox, apply_letterbox

COUNT = 4
TRIES = 16
"""Files that are opened at most in search of readable ones."""


def sample_images(
    paths: Sequence[str], plan_for: Callable[[tuple[int, int]], Letterbox]
) -> list[Tensor]:
    """Up to `COUNT` images float32 [3, h, w] (RGB, 0 to 1), from all over the list.

    `plan_for` gives the letterbox of a picture of size (height, width). None where no file of
    those tried can be read.
    """
    step = max(len(paths) // COUNT, 1)
    # The first try goes through the whole list, the next ones begin one further each.
    order = [at for start in range(step) for at in range(start, len(paths), step)]
    found: list[Tensor] = []
    for position in order[:TRIES]:
        try:
            image = read_image(paths[position])
        except (ImageError, MemoryError):
            continue
        boxed = apply_letterbox(image, plan_for((image.shape[0], image.shape[1])))
        found.append(torch.from_numpy(boxed).permute(2, 0, 1).flip(0).float().div_(255))
        if len(found) == COUNT:
            break
    return found


def by_shape(samples: Sequence[Tensor]) -> list[Tensor]:
    """The samples [3, h, w] as batches [b, 3, h, w] of one shape each."""
    groups: dict[tuple[int, ...], list[Tensor]] = {}
    for image in samples:
        groups.setdefault(tuple(image.shape), []).append(image)
    return [torch.stack(group) for group in groups.values()]


def upper_half(image: Tensor, stride: int) -> Tensor:
    """About the upper half of an image [3, h, w], its height a multiple of `stride`."""
    return image[:, : max(image.shape[1] // stride // 2, 1) * stride]
