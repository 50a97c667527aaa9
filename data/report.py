"""The report of reading a data set: what was kept, and what was wrong with the rest."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import numpy as np

from data.dataset_index import DatasetIndex
from utils.logs import counted

EXAMPLES = 5
PROBLEMS = {
    "duplicate_images": ("%s image listed twice, taken once", "%s images listed twice, taken once"),
    "duplicate_boxes": ("%s box given twice, taken once", "%s boxes given twice, taken once"),
    "clipped": (
        "%s box reached over the edge of its image and was clipped",
        "%s boxes reached over the edge of their image and were clipped",
    ),
    "without_area": ("%s box without area left out", "%s boxes without area left out"),
    "rotated": ("%s rotated box taken as an upright one", "%s rotated boxes taken as upright ones"),
    "crowds": (
        "%s crowd region (iscrowd): no object to train on, ignored in evaluations",
        "%s crowd regions (iscrowd): no objects to train on, ignored in evaluations",
    ),
    "turned": (
        "%s image turned upright as its EXIF orientation says",
        "%s images turned upright as their EXIF orientation says",
    ),
}
"""What is told of one and of several, by the field of a report that counts them."""


@dataclass
class BadRecords:
    """Number of skipped files, and the reasons of the first few."""

    count: int = 0
    examples: list[str] = field(default_factory=list)

    def add(self, reason: str) -> None:
        """Count one more, and keep its reason while there are few."""
        self.count += 1
        if len(self.examples) < EXAMPLES:
            self.examples.append(reason)


@dataclass
class DataReport:
    """Counts of images kept, files skipped, and boxes changed or left out."""

    index_file: str
    listed: int = 0
    kept: int = 0
    backgrounds: int = 0
    boxes: int = 0
    bad_images: BadRecords = field(default_factory=BadRecords)
    missing_images: int = 0
    bad_annotations: BadRecords = field(default_factory=BadRecords)
    duplicate_images: int = 0
    duplicate_boxes: int = 0
    clipped: int = 0
    without_area: int = 0
    rotated: int = 0
    crowds: int = 0
    turned: int = 0
    other_sizes: BadRecords = field(default_factory=BadRecords)
    unknown_classes: Counter[str] = field(default_factory=Counter)
    notes: tuple[str, ...] = ()
    """Sentences on how the data set was found and divided."""

    def count(self, index: DatasetIndex) -> None:
        """Count the images that are kept, their boxes, and those without any."""
        self.kept, self.boxes = len(index), len(index.boxes)
        self.backgrounds = int((np.diff(index.offsets) == 0).sum())

    def lines(self) -> list[str]:
        """Return the report as text: one line of totals, then one per kind of problem."""
        text = [
            f"{self.index_file}: {self.kept:,} of {counted(self.listed, '%s image', '%s images')} "
            f"usable, {counted(self.boxes, '%s box', '%s boxes')}, "
            + counted(self.backgrounds, "%s image without objects", "%s images without objects")
        ]
        for title, bad in (("image", self.bad_images), ("annotation", self.bad_annotations)):
            if bad.count:
                text.append(f"{bad.count:,} with an unusable {title} skipped, such as")
                text += [f"  {example}" for example in bad.examples]
        most = self.unknown_classes.most_common(EXAMPLES)
        unknown = ", ".join(f"{name} ({count:,})" for name, count in most)
        lines = [
            counted(count, *PROBLEMS[name]) for name in PROBLEMS if (count := getattr(self, name))
        ]
        if others := sum(self.unknown_classes.values()):
            forms = "%s box of another class left out", "%s boxes of other classes left out"
            lines.append(f"{counted(others, *forms)}: {unknown}")
        return [*text, *self.notes, *lines]

    def size_warning(self) -> str:
        """Return a sentence on images of another size than their annotations state, or ''."""
        if not self.other_sizes.count:
            return ""
        return (
            f"images of {self.index_file} whose size is not the one that their annotations state: "
            f"{self.other_sizes.count:,}; their boxes may not fit (labelled turned as their EXIF "
            "orientation says, or resized afterwards?), such as "
            f"{'; '.join(self.other_sizes.examples)}"
        )
