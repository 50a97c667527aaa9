"""A data set as arrays: image paths, sizes and labelled objects."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from data.instances import Instances
from data.sources import names_below


@dataclass(frozen=True)
class DatasetIndex:
    """A data set as arrays: cheap to slice, to shard and to send to worker processes.

    paths: n image files. sizes: int32 [n, 2], (height, width) of the stored pixel grid, or of the
    image turned by its orientation tag if `upright`. instances: the m objects of all images in
    their order, boxes float32 xyxy in pixels of that grid, inside it, never without area.
    offsets: int64 [n + 1]; image i owns the instances offsets[i]:offsets[i + 1].
    crowds: the k regions of many objects, as `instances`: no objects, ignored in an evaluation.
    crowd_images: int64 [k], the image of each, never descending.
    """

    paths: tuple[str, ...]
    sizes: npt.NDArray[np.int32]
    instances: Instances
    offsets: npt.NDArray[np.int64]
    class_names: tuple[str, ...]
    upright: bool = False
    crowds: Instances = field(default_factory=Instances.none)
    crowd_images: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))

    @classmethod
    def build(
        cls,
        paths: Sequence[str],
        sizes: npt.ArrayLike,
        instances: Instances,
        counts: npt.ArrayLike,
        class_names: Sequence[str],
        *,
        upright: bool = False,
    ) -> DatasetIndex:
        """Return an index from instances in the order of the images and their number per image."""
        per_image = np.asarray(counts, np.int64).reshape(-1)
        index = cls(
            paths=tuple(paths),
            sizes=np.asarray(sizes, np.int32).reshape(-1, 2),
            instances=instances.as_stored(),
            offsets=np.concatenate([np.zeros(1, np.int64), np.cumsum(per_image)]),
            class_names=tuple(class_names),
            upright=upright,
        )
        assert len(index.paths) == len(index.sizes) == len(per_image)
        assert len(index.boxes) == len(index.classes) == index.offsets[-1]
        return index

    @classmethod
    def concatenate(cls, parts: Sequence[DatasetIndex]) -> DatasetIndex:
        """Return the images of all parts, at least one, which have the same class names."""
        starts = np.cumsum([0, *map(len, parts[:-1])])
        whole = cls.build(
            [path for part in parts for path in part.paths],
            np.concatenate([part.sizes for part in parts]),
            Instances.concatenate([part.instances for part in parts]),
            np.concatenate([np.diff(part.offsets) for part in parts]),
            parts[0].class_names,
            upright=parts[0].upright,
        )
        return whole.with_crowds(
            Instances.concatenate([part.crowds for part in parts]),
            np.concatenate(
                [p.crowd_images + start for p, start in zip(parts, starts, strict=True)]
            ),
        )

    def __len__(self) -> int:
        return len(self.paths)

    @property
    def boxes(self) -> npt.NDArray[np.float32]:
        """The boxes of all images, float32 [m, 4]."""
        return np.asarray(self.instances.boxes, np.float32)

    @property
    def classes(self) -> npt.NDArray[np.int32]:
        """The class indices of all boxes, int32 [m]."""
        return np.asarray(self.instances.classes, np.int32)

    def instances_of(self, image: int) -> Instances:
        """Return the objects of one image; none for a background image."""
        return self.instances.take(slice(self.offsets[image], self.offsets[image + 1]))

    def boxes_of(self, image: int) -> npt.NDArray[np.float32]:
        """Return the boxes [k, 4] of one image."""
        return self.boxes[self.offsets[image] : self.offsets[image + 1]]

    def classes_of(self, image: int) -> npt.NDArray[np.int32]:
        """Return the class indices [k] of one image."""
        return self.classes[self.offsets[image] : self.offsets[image + 1]]

    def crowds_of(self, image: int) -> Instances:
        """Return the crowd regions of one image."""
        start, end = np.searchsorted(self.crowd_images, (image, image + 1))
        return self.crowds.take(slice(start, end))

    def owners(self) -> npt.NDArray[np.int64]:
        """Return the image of each box, int64 [m]."""
        return np.repeat(np.arange(len(self)), np.diff(self.offsets))

    def counts(self) -> npt.NDArray[np.int64]:
        """Return the number of boxes of each class, [number of classes]."""
        return np.bincount(self.classes, minlength=len(self.class_names)).astype(np.int64)

    def subset(self, images: Sequence[int] | npt.NDArray[np.int64]) -> DatasetIndex:
        """Return the data set of some images, in the order given."""
        chosen = np.asarray(images, np.int64).reshape(-1)
        counts = np.diff(self.offsets)[chosen]
        first = np.searchsorted(self.crowd_images, chosen)
        crowd_counts = np.searchsorted(self.crowd_images, chosen, side="right") - first
        part = DatasetIndex.build(
            [self.paths[image] for image in chosen],
            self.sizes[chosen],
            self.instances.take(_rows(self.offsets[chosen], counts)),
            counts,
            self.class_names,
            upright=self.upright,
        )
        return part.with_crowds(
            self.crowds.take(_rows(first, crowd_counts)),
            np.repeat(np.arange(len(chosen)), crowd_counts),
        )

    def only(self, classes: Sequence[int]) -> DatasetIndex:
        """Return the same images with the boxes of some classes; indices keep their meaning."""
        kept = np.isin(self.classes, np.asarray(classes, np.int64))
        counts = np.bincount(self.owners()[kept], minlength=len(self))
        part = DatasetIndex.build(
            self.paths,
            self.sizes,
            self.instances.take(kept),
            counts,
            self.class_names,
            upright=self.upright,
        )
        kept = np.isin(self.crowds.classes, np.asarray(classes, np.int64))
        return part.with_crowds(self.crowds.take(kept), self.crowd_images[kept])

    def with_crowds(self, crowds: Instances, images: npt.NDArray[np.int64]) -> DatasetIndex:
        """Return the data set with other crowd regions [k] of `images` [k], in their order."""
        return replace(self, crowds=crowds.as_stored(), crowd_images=images)

    def with_classes(
        self, numbers: npt.NDArray[np.integer], class_names: Sequence[str]
    ) -> DatasetIndex:
        """Return the same boxes with other classes: class c becomes numbers[c] of `class_names`."""
        return replace(
            self,
            instances=Instances(self.boxes, numbers[self.classes]),
            crowds=Instances(self.crowds.boxes, numbers[self.crowds.classes]),
            class_names=tuple(class_names),
        )

    def single_class(self) -> DatasetIndex:
        """Return the data set with all classes as one, named "item" as in v7.0; one class stays."""
        if len(self.class_names) == 1:
            return self
        return self.with_classes(np.zeros(len(self.class_names), np.int32), ("item",))

    def digest(self) -> str:
        """Return a digest of class names, pictures, boxes and crowds, wherever the pictures lie.

        A picture counts by its name below the folder of all, the length of its file and its size.
        """
        lengths = np.full(len(self), -1, np.int64)
        for number, path in enumerate(self.paths):
            with suppress(OSError, ValueError):
                lengths[number] = os.stat(path).st_size
        digest = hashlib.sha256()
        for text in (*self.class_names, "", *names_below(self.paths)):
            digest.update(text.encode("utf-8", "surrogatepass") + b"\0")
        crowds = (self.crowds.boxes, self.crowds.classes, self.crowd_images)  # mostly empty
        for array in (lengths, self.sizes, self.boxes, self.classes, self.offsets, *crowds):
            digest.update(array.tobytes())
        return digest.hexdigest()


def _rows(starts: npt.NDArray[np.int64], counts: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return starts[i] to starts[i] + counts[i] - 1 of each i, one after the other."""
    shifts = np.repeat(starts - (np.cumsum(counts) - counts), counts)
    rows: npt.NDArray[np.int64] = shifts + np.arange(len(shifts))
    return rows
