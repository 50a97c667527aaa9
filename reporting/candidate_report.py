"""The report of mining and inference: counts, scores and examples on one HTML page."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path, PurePath
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from data.images import write_image
from inference.journal import Record
from inference.predictions import Prediction
from reporting.drawing import class_colours, read_if_possible, shorten
from reporting.page import PAGE, SHEET_QUALITY, chart_uri, write_page
from reporting.plots import histogram, line
from reporting.tensorboard import TensorBoardLogger
from reporting.tiles import TILE_SIDE, Tile, annotated_tile, contact_sheet, mark_deciding
from utils.errors import best_effort

log = logging.getLogger(__name__)

SHOWN = 12
"""Images of each gallery."""
BINS = 40
MOST_ROWS = 25
"""Classes listed openly; more are folded."""
CLASSES_NAMED = 5
"""Classes that the summary names."""
MOST_PER_IMAGE = 50
"""Images with as many detections or more share the last bar."""
MOST_COVERED = 20_000
"""First images of a ranking whose classes are counted: each is read from disk."""
ALIKE = 0.1
"""Images of a smaller distance are alike: so are most neighbouring frames of a clip."""
GROUPS_SHOWN, MEMBERS_SHOWN = 3, 4
"""The largest groups of alike images, and images of each."""
STEPS = (10, 30, 100, 300, 1000, 3000, 10_000)
"""The k of the table of classes among the first k images."""


Known = Callable[[int], Record | None]
"""The record of the image at a position; None if it is not known."""


class CandidateReport:
    """Count the predictions of a task as they pass, and write a page; memory stays the same."""

    def __init__(
        self, class_names: Sequence[str], total: int, *, mining: bool, upright: bool = False
    ) -> None:
        self._names = tuple(class_names)
        self._mining, self._upright = mining, upright
        self.examples = range(0, total, max(total // SHOWN, 1))
        """Positions of the images shown, of inference."""
        self._images = self._unreadable = self._empty = 0
        self._per_class = np.zeros(len(self._names), np.int64)
        self._confidences = np.zeros(BINS, np.int64)
        self._per_image = np.zeros(MOST_PER_IMAGE + 1, np.int64)

    def add(self, prediction: Prediction) -> None:
        """Count the detections of one image."""
        self._images += 1
        if prediction.error is not None:
            self._unreadable += 1
            return
        rows = prediction.detections
        self._empty += not len(rows)
        counts = np.bincount(rows[:, 5].astype(np.int64), minlength=len(self._names))
        self._per_class += counts[: len(self._names)]
        self._confidences += np.histogram(rows[:, 4], BINS, (0.0, 1.0))[0]
        self._per_image[min(len(rows), MOST_PER_IMAGE)] += 1

    def summary(self) -> str:
        """Return images, objects, and the objects of each frequent class in one line."""
        order = np.argsort(-self._per_class, kind="stable")[:CLASSES_NAMED]
        named = [f"{self._names[i]} {self._per_class[i]}" for i in order if self._per_class[i]]
        listed = f" ({', '.join(named)}{', ...' if len(self._names) > CLASSES_NAMED else ''})"
        return (
            f"{self._images} images ({self._unreadable} unreadable, {self._empty} without objects)"
            f", {int(self._per_class.sum())} objects{listed if named else ''}"
        )

    def write(
        self,
        folder: Path,
        known: Known,
        *,
        ranking: Sequence[int] = (),
        scores: Sequence[float | None] = (),
        sheets: Path | None = None,
        tensorboard: bool = True,
        note: str = "",
    ) -> None:
        """Write the page into `folder`, and its images for TensorBoard; a failure is a warning.

        Of mining: `ranking` has the positions of all candidates, best first, `scores` their scores
        by position, `sheets` is a folder for contact sheets of both ends of the ranking, and `note`
        says where it is no ranking by the algorithm.
        """
        with best_effort(PAGE, log), TensorBoardLogger(folder if tensorboard else None) as board:
            ranked = [(n, score) for n in ranking if (score := scores[n]) is not None]
            choice: dict[str, Any] = {"coverage": [], "held": []}
            figures = self._figures([score for _, score in ranked])
            groups = AlikeGroups()
            if ranked:
                positions = [n for n, _ in ranked]
                choice, figures["coverage"] = self._coverage(positions, known, groups)
            if self._mining:
                first = self._tiles(ranked[:SHOWN], known)
                last = self._tiles(ranked[-SHOWN:], known)
                galleries = [("first", "Label these first", list(first))]
                galleries.append(("last", "Label these last", list(last)))
                if shown := groups.largest():
                    alike = self._tiles(((n, scores[n]) for n in shown), known)
                    galleries.append(("alike", "The largest groups of alike images", list(alike)))
            else:
                examples = self._tiles(((n, None) for n in self.examples), known)
                galleries = [("examples", "Examples", list(islice(examples, SHOWN)))]
            for name, _, tiles in galleries:
                sheet = contact_sheet(tiles)
                board.image(name, sheet)
                if sheets and tiles:
                    write_image(sheets / f"{name}.jpg", sheet, quality=SHEET_QUALITY)
            write_page(
                folder / PAGE,
                "candidate_report.html",
                mining=self._mining,
                images=self._images,
                unreadable=self._unreadable,
                empty=self._empty,
                per_class=list(zip(self._names, self._per_class.tolist(), strict=True)),
                class_colours=class_colours(self._names),
                figures={name: chart_uri(figure) for name, figure in figures.items()},
                most_rows=MOST_ROWS,
                galleries=galleries,
                note=note,
                **choice,
            )

    def _figures(self, falling: Sequence[float]) -> dict[str, Figure]:
        """Return the figures of the detections; of mining, those of the `falling` scores too."""
        filled = np.flatnonzero(self._per_image)
        most = int(filled[-1]) + 1 if len(filled) else 1
        many = f" ({MOST_PER_IMAGE} and more in one)" if most > MOST_PER_IMAGE else ""
        title, edges = "Confidence of the detections", np.linspace(0, 1, BINS + 1)
        figures = {
            "confidences": histogram(
                self._confidences, edges, title=title, x="confidence", y="detections"
            ),
            "per_image": histogram(
                self._per_image[:most],
                np.arange(most + 1) - 0.5,
                title="Detections per image",
                x=f"detections{many}",
                y="images",
            ),
        }
        if self._mining:
            counts, edges = np.histogram(falling, BINS, _range(falling))
            title = "Mining scores: larger means label first"
            figures["scores"] = histogram(counts, edges, title=title, x="score", y="images")
        if falling:
            figures["rank"] = line(falling, title="Score by rank", x="rank", y="score")
        return figures

    def _coverage(
        self, ranked: Sequence[int], known: Known, groups: AlikeGroups
    ) -> tuple[dict[str, Any], Figure]:
        """Return what helps to choose k, the number of images to label: a table and a figure.

        The groups of alike images among them are added to `groups`.
        """
        first = ranked[:MOST_COVERED]
        steps = [k for k in STEPS if k < len(first)] + [len(first)]
        table, classes, held = [], [], []
        records = groups.watch(map(known, first))
        for k, images in enumerate(coverage(records, len(self._names)), start=1):
            classes.append(int((images > 0).sum()))
            if k in steps:
                table.append(images.tolist())
                held.append(len(groups.members))
        title = f"Classes in the first k images (of {len(self._names)})"
        rows = list(zip(self._names, *table, strict=True))
        header = ("class", *(f"k = {k:,}" for k in steps))
        figure = line(classes, title=title, x="k", y="classes", counts=True)
        of_groups = [("groups of alike images", *held)] if groups.members else []
        choice = {"coverage": rows, "coverage_header": header, "held": of_groups}
        return {**choice, "alike": groups.words()}, figure

    def _tiles(self, images: Iterable[tuple[int, float | None]], known: Known) -> Iterator[Tile]:
        """Yield the images of these positions and scores that can still be read."""
        for position, score in images:
            record = known(position)
            image = read_if_possible(record.path, upright=self._upright) if record else None
            if record is None or image is None:
                continue
            rows, name = record.detections, shorten(PurePath(record.path).name)
            breakdown = (record.scored or {}).get("breakdown")
            shown = f"{len(rows)} detections" if score is None else f"score {score:.3f}"
            if isinstance(breakdown, dict):
                shown += f", {breakdown_words(breakdown, self._names)}"
            boxes, classes = rows[:, :4], rows[:, 5].astype(int)
            tile = annotated_tile(
                image, f"{name}: {shown}", boxes, classes, self._names, rows[:, 4]
            )
            if isinstance(breakdown, dict):
                scale = min(TILE_SIDE / max(image.shape[:2]), 1.0)
                tile = mark_deciding(tile, breakdown, scale)
            yield tile


class AlikeGroups:
    """Groups of alike images among those that a ranking by distance has put in order.

    An image is of the group of the nearest image ranked above it if that is nearer than `ALIKE`,
    else the first of a new group.
    """

    def __init__(self) -> None:
        self.members: dict[int, list[int]] = {}
        """By the position of its first image: the positions of a group's images, in their order."""
        self._first_of: dict[int, int] = {}

    def watch(self, records: Iterable[Record | None]) -> Iterator[Record | None]:
        """Pass records on, best first; those without a distance are of no group."""
        for record in records:
            breakdown = (record.scored or {}).get("breakdown") if record else None
            if record and isinstance(breakdown, dict) and "distance" in breakdown:
                own = first = record.position
                if breakdown["distance"] < ALIKE:
                    first = self._first_of.get(breakdown.get("nearest", own), own)
                self._first_of[own] = first
                self.members.setdefault(first, []).append(own)
            yield record

    def words(self) -> str:
        """Return a sentence on the groups; none without any."""
        sizes = sorted(map(len, self.members.values()))
        if not sizes:
            return ""
        several = sum(size > 1 for size in sizes)
        return (
            f"The {sum(sizes):,} images ranked by distance are {len(sizes):,} groups of alike "
            f"images (distance below {ALIKE:g}); {several:,} have several images, at most "
            f"{sizes[-1]:,}."
        )

    def largest(self) -> list[int]:
        """Return the positions of some images of the largest groups with several images."""
        several = [own for own in self.members.values() if len(own) > 1]
        chosen = sorted(several, key=len, reverse=True)[:GROUPS_SHOWN]
        return [n for own in chosen for n in own[:MEMBERS_SHOWN]]


def breakdown_words(breakdown: Mapping[str, Any], names: Sequence[str] = ()) -> str:
    """Return what decided a score: view and terms of cald, class of balanced, distance."""
    words = []
    if view := breakdown.get("view"):
        if "iou" not in breakdown:
            words.append(f"{view}: nothing detected again")
        elif "divergence" not in breakdown:
            words.append(f"{view}: object lost")
        else:
            words.append(
                f"{view}: IoU {breakdown['iou']:.2f}, divergence {breakdown['divergence']:.2f}"
            )
    elif "uncertainty" in breakdown:
        words.append(f"{names[breakdown['class']]}: uncertainty {breakdown['uncertainty']:.2f}")
    if "distance" in breakdown:
        words.append(f"distance {breakdown['distance']:.2f}")
    return ", ".join(words)


def coverage(records: Iterable[Record | None], classes: int) -> Iterator[np.ndarray]:
    """Yield after each record the number of images so far with each class, int64 [classes]."""
    images = np.zeros(classes, np.int64)
    for record in records:
        found = (record.detections[:, 5] if record else np.zeros(0)).astype(np.int64)
        images[np.unique(found[(found >= 0) & (found < classes)])] += 1
        yield images.copy()


def _range(scores: Sequence[float]) -> tuple[float, float]:
    """Return the lowest and the highest score, with some room where they hardly differ."""
    low, high = (min(scores), max(scores)) if scores else (0.0, 1.0)
    return (low, high) if high - low > 0.001 else (low - 0.005, high + 0.005)
