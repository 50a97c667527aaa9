"""What an evaluation found, missed and invented in each image, and the images with most errors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Literal

import numpy as np

from data.dataset_index import DatasetIndex
from evaluation.evaluator import Evaluation, crowd_regions, ground_truth
from evaluation.metrics import found_and_invented
from reporting.drawing import (
    ACCENT,
    ALERT,
    INVENTED,
    box_labels,
    fit,
    read_if_possible,
    shorten,
)
from reporting.tiles import TILE_SIDE, Tile, outlines

Kind = Literal["missed", "invented"]
SHOWN = 12
"""Images of each gallery."""
COLOURS = ((ACCENT, "found"), (ALERT, "missed"), (INVENTED, "invented (dashed)"))


@dataclass(frozen=True)
class ImageErrors:
    """The labels of an image that are found, bool [m], and its detections that are false positives,
    bool [n], at the reported confidence.
    """

    position: int
    """In the split."""
    path: str
    found: np.ndarray
    false: np.ndarray

    @property
    def missed(self) -> int:
        """The number of labels that are not found."""
        return int((~self.found).sum())

    @property
    def invented(self) -> int:
        """The number of false positives."""
        return int(self.false.sum())

    @property
    def total(self) -> int:
        """The number of labels."""
        return len(self.found)


def image_errors(evaluation: Evaluation, index: DatasetIndex) -> list[ImageErrors]:
    """Return the images that miss or invent objects, in the order of the split."""
    images = []
    for position, rows in sorted(evaluation.detections.items()):
        crowds = crowd_regions(index, position)
        judged = found_and_invented(rows, ground_truth(index, position), crowds)
        images.append(ImageErrors(position, index.paths[position], *judged))
    return [one for one in images if one.missed or one.invented]


def ranked(images: Sequence[ImageErrors], kind: Kind) -> list[ImageErrors]:
    """Return the images with errors of a kind: most errors first, then the fewest labels."""
    own = [one for one in images if getattr(one, kind)]
    return sorted(own, key=lambda one: (-getattr(one, kind), one.total))


def error_tiles(
    images: Sequence[ImageErrors], evaluation: Evaluation, index: DatasetIndex, kind: Kind
) -> list[Tile]:
    """Draw the first images with all boxes in `COLOURS`; those of `kind` are thick and named."""
    tiles = []
    for number, one in enumerate(images[:SHOWN], start=1):
        image = read_if_possible(one.path, upright=index.upright)
        if image is None:
            continue
        small, scale = fit(image, TILE_SIDE)
        boxes, classes = index.boxes_of(one.position) * scale, index.classes_of(one.position)
        rows = evaluation.detections[one.position]
        false = rows[one.false]
        frames = outlines(boxes[one.found], [ACCENT] * int(one.found.sum()), thickness=1)
        missed = outlines(boxes[~one.found], [ALERT] * one.missed, thickness=3)
        colours = [INVENTED] * one.invented
        invented = outlines(false[:, :4] * scale, colours, thickness=3, dashed=True)
        name = shorten(PurePath(one.path).name)
        if kind == "missed":
            frames += [*invented, *missed]
            labels = box_labels(
                boxes[~one.found], classes[~one.found], index.class_names, colour=ALERT
            )
            words = f"{one.missed} of {one.total} missed"
        else:
            frames += [*missed, *invented]
            of_class = false[:, 5].astype(int)
            labels = box_labels(
                *(false[:, :4] * scale, of_class, index.class_names, false[:, 4]), colour=INVENTED
            )
            words = f"{one.invented} invented, {one.total} labelled"
        tiles.append(Tile(small, f"{number}. {name}: {words}", labels, frames))
    return tiles
