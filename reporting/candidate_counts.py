"""Counts of detections by class and confidence, and examples from low to high confidence."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

from inference.predictions import Prediction
from utils.logs import counted

BINS = 40
"""Of a confidence from 0 to 1."""
BANDS = (0.0, 0.3, 0.5, 0.7, 0.9, 1.0)
"""Edges of the confidences of a table; each is an edge of a bin, too."""
MOST_PER_IMAGE = 50
"""Images with as many detections or more share the last bar."""
CLASSES_NAMED = 5
"""Classes that the summary names."""


@dataclass
class Examples:
    """One example of each bin, whichever has the smallest checksum: no order of images counts."""

    kept: dict[int, tuple[int, float, Prediction, int]] = field(default_factory=dict)

    def offer(self, number: int, value: float, image: Prediction, row: int = 0) -> None:
        """Keep an image, or its detection `row`, as the example of the bin `number`."""
        draw = zlib.crc32(f"{image.path} {row}".encode("utf-8", "surrogateescape"))
        if number not in self.kept or draw < self.kept[number][0]:
            self.kept[number] = (draw, value, image, row)

    def low_to_high(self, most: int) -> list[tuple[Prediction, int]]:
        """Return at most so many images and rows of bins far apart, by rising value."""
        ordered = sorted(self.kept.values(), key=lambda one: (one[1], one[0]))
        places = np.unique(np.linspace(0, len(ordered) - 1, min(most, len(ordered))).round())
        return [ordered[int(place)][2:] for place in places]


class CandidateCounts:
    """Counter of images and detections; its memory does not grow with the images."""

    def __init__(self, class_names: Sequence[str]) -> None:
        self.names = tuple(class_names)
        self.images = self.unreadable = self.empty = 0
        self.by_confidence = np.zeros((len(self.names), BINS), np.int64)
        """Detections of each class in each bin of confidence."""
        self.per_image = np.zeros(MOST_PER_IMAGE + 1, np.int64)
        self.detections, self.whole, self.without = Examples(), Examples(), Examples()
        """Examples: detections by confidence, images by mean confidence, images without any."""

    def add(self, image: Prediction, *, shown: bool = True) -> None:
        """Count the detections of one image; it is an example if its file can be `shown`."""
        self.images += 1
        if image.error is not None:
            self.unreadable += 1
            return
        rows = image.detections
        self.empty += not len(rows)
        self.per_image[min(len(rows), MOST_PER_IMAGE)] += 1
        bins = np.clip((rows[:, 4].astype(np.float64) * BINS + 1e-6).astype(int), 0, BINS - 1)
        classes = rows[:, 5].astype(np.int64)
        known = (classes >= 0) & (classes < len(self.names))
        np.add.at(self.by_confidence, (classes[known], bins[known]), 1)
        if not shown:
            return
        if not len(rows):
            self.without.offer(
                zlib.crc32(image.path.encode("utf-8", "surrogateescape")) % 8, 0, image
            )
            return
        mean = float(rows[:, 4].mean())
        self.whole.offer(int(mean * BINS), mean, image)
        for row, number in enumerate(bins.tolist()):
            self.detections.offer(number, float(rows[row, 4]), image, row)

    @property
    def per_class(self) -> list[int]:
        """Detections of each class."""
        found: list[int] = self.by_confidence.sum(1).tolist()
        return found

    @property
    def objects(self) -> int:
        """Detections of all classes."""
        return int(self.by_confidence.sum())

    def table(self) -> tuple[list[str], list[tuple[object, ...]]]:
        """Return the bands of confidence, and rows of a class, its detections, those by band.

        Bands below the lowest confidence found are left out.
        """
        edges = [round(edge * BINS) for edge in BANDS]
        filled = np.flatnonzero(self.by_confidence.sum(0))
        first = filled[0] if len(filled) else 0
        bands = [(a, b) for a, b in pairwise(edges) if b > first]
        header = [f"{a / BINS:g}–{b / BINS:g}" for a, b in bands]
        rows = [
            (name, int(own.sum()), *(int(own[a:b].sum()) for a, b in bands))
            for name, own in zip(self.names, self.by_confidence, strict=True)
        ]
        return header, rows

    def summary(self) -> str:
        """Return images, objects, and the objects of each frequent class in one line."""
        counts = np.array(self.per_class, np.int64)
        order = np.argsort(-counts, kind="stable")[:CLASSES_NAMED]
        named = [f"{self.names[i]} {counts[i]:,}" for i in order if counts[i]]
        listed = f": {', '.join(named)}{', ...' if len(self.names) > CLASSES_NAMED else ''}"
        return (
            f"{counted(self.images, '%s image', '%s images')} ({self.unreadable:,} unreadable, "
            f"{self.empty:,} without objects), "
            f"{counted(int(counts.sum()), '%s object', '%s objects')}{listed if named else ''}"
        )
