"""True and false positives and misses of an evaluation in each image, and the images with most."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
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
)
from reporting.tiles import MOST_NAMED, TILE_SIDE, ImageName, Tile, naming_order, outlines
from utils.logs import counted

Kind = Literal["missed", "invented"]
SHOWN = 12
"""Images of each gallery."""
COLOURS = (
    (ACCENT, "found (TP)"),
    (ALERT, "missed (FN)"),
    (INVENTED, "false positives (FP), dashed"),
)


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
    images: Sequence[ImageErrors],
    evaluation: Evaluation,
    index: DatasetIndex,
    kind: Kind,
    known: Mapping[str, str],
) -> list[Tile]:
    """Draw the first images with all boxes in `COLOURS`; those of `kind` are thick and named.

    In a crowd lines are thinner. `known` are original names of image files by path.
    """
    tiles = []
    for number, one in enumerate(images[:SHOWN], start=1):
        image = read_if_possible(one.path, upright=index.upright)
        if image is None:
            continue
        small, scale = fit(image, TILE_SIDE)
        boxes, classes = index.boxes_of(one.position) * scale, index.classes_of(one.position)
        rows = evaluation.detections[one.position]
        false = rows[one.false]
        named = one.missed if kind == "missed" else one.invented
        thick = 3 if named <= MOST_NAMED else 2
        other = 1 if max(one.total, len(rows)) > MOST_NAMED else thick
        width = {"missed": other, "invented": other, kind: thick}
        frames = outlines(boxes[one.found], [ACCENT] * int(one.found.sum()), thickness=1)
        missed = outlines(boxes[~one.found], [ALERT] * one.missed, thickness=width["missed"])
        invented = outlines(
            *(false[:, :4] * scale, [INVENTED] * one.invented),
            thickness=width["invented"],
            dashed=True,
        )
        name = ImageName.of(one.path, known)
        if kind == "missed":
            frames += [*invented, *missed]
            places, of_class, scores, colour = boxes[~one.found], classes[~one.found], None, ALERT
            words = f"{one.missed:,} of {one.total:,} missed"
        else:
            frames += [*missed, *invented]
            places, of_class, scores = false[:, :4] * scale, false[:, 5].astype(int), false[:, 4]
            colour = INVENTED
            forms = (
                f"%s false positive, {one.total:,} labelled",
                f"%s false positives, {one.total:,} labelled",
            )
            words = counted(one.invented, *forms)
        labels = box_labels(places, of_class, index.class_names, scores, colour=colour)
        if named > MOST_NAMED:  # the surest inventions first
            order = naming_order(of_class, None if scores is None else -scores)
            labels = [labels[row] for row in order]
        tiles.append(Tile(small, f"{number}. {name.short}: {words}", labels, frames, name.whole))
    return tiles
