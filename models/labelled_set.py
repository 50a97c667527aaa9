"""How many objects of each class a labelled image has, as weights remember it of their training."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

IMAGES, OBJECTS = "labelled_images", "labelled_objects"


def labelled_metadata(objects: Sequence[int], images: int) -> dict[str, object]:
    """What a checkpoint keeps: the number of training images, and of objects of each class."""
    return {IMAGES: int(images), OBJECTS: [int(count) for count in objects]}


def objects_per_image(metadata: Mapping[str, object], num_classes: int) -> tuple[float, ...] | None:
    """Objects of each class per labelled image; None where the weights do not tell."""
    images, objects = metadata.get(IMAGES), metadata.get(OBJECTS)
    if not isinstance(images, int) or images <= 0 or not isinstance(objects, list):
        return None
    numbers = [float(n) for n in objects if isinstance(n, int | float) and math.isfinite(n)]
    if len(numbers) != num_classes or len(objects) != num_classes or min(numbers) < 0:
        return None
    return tuple(number / images for number in numbers)
