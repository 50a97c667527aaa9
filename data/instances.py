"""The labelled objects of images as arrays: one type from the annotation readers to the batch."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Row = tuple[float, float, float, float, float]
"""Class index, x1, y1, x2, y2."""


@dataclass(frozen=True)
class Instances:
    """Labelled objects, one a row.

    `boxes` [n, 4] are xyxy in pixels with exclusive right and bottom edges: float64 as read and
    while transformed, float32 in a data set. `classes` are integers [n].
    """

    boxes: npt.NDArray[np.floating[Any]]
    classes: npt.NDArray[np.integer[Any]]

    @classmethod
    def from_rows(cls, rows: Iterable[Row]) -> Instances:
        """Return the objects of rows (class, x1, y1, x2, y2), boxes in float64."""
        table = np.array(list(rows), np.float64).reshape(-1, 5)
        return cls(table[:, 1:], table[:, 0].astype(np.int32))

    @classmethod
    def concatenate(cls, parts: Sequence[Instances]) -> Instances:
        """Return the objects of all parts, at least one, in their order."""
        return cls(
            np.concatenate([part.boxes for part in parts]),
            np.concatenate([part.classes for part in parts]),
        )

    @classmethod
    def none(cls) -> Instances:
        """Return no objects, as they are in a data set."""
        return cls(np.zeros((0, 4), np.float32), np.zeros(0, np.int32))

    def __len__(self) -> int:
        return len(self.classes)

    def take(self, rows: slice | npt.NDArray[Any]) -> Instances:
        """Return the objects of a slice, of indices [k] or of a mask [n]."""
        return Instances(self.boxes[rows], self.classes[rows])

    def with_boxes(self, boxes: npt.NDArray[np.floating[Any]]) -> Instances:
        """Return the objects with other boxes [n, 4]."""
        return Instances(boxes, self.classes)

    def as_stored(self) -> Instances:
        """Return the objects as they are in a data set: float32 boxes, int32 classes."""
        boxes = np.asarray(self.boxes, np.float32).reshape(-1, 4)
        return Instances(boxes, np.asarray(self.classes, np.int32).reshape(-1))
