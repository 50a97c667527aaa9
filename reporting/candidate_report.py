"""The report of mining and inference: counts, scores and examples on one HTML page."""

from __future__ import annotations

import heapq
import logging
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePath
from typing import Any, NamedTuple

import numpy as np

from data.images import ImageError, read_image, write_image
from inference.journal import Record
from inference.predictions import Prediction
from reporting.drawing import (
    TILE_SIDE,
    Tile,
    annotated_tile,
    class_colours,
    contact_sheet,
    mark_deciding,
    shorten,
)
from reporting.page import png_uri, write_page
from reporting.plots import figure_png, histogram, line
from reporting.tensorboard import TensorBoardLogger
from utils.errors import best_effort

log = logging.getLogger(__name__)

PAGE = "report.html"
JPEG_QUALITY = 90
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
STEPS = (10, 30, 100, 300, 1000, 3000, 10_000)
"""The k of the table of classes among the first k images."""


class _Example(NamedTuple):
    position: int
    path: str
    detections: np.ndarray
    score: float | None = None


_Ranked = tuple[float, int, _Example]


class CandidateReport:
    """Count predictions and scores of a task as they pass, and write a page.

    Memory does not grow with the number of images, apart from eight bytes a score.
    """

    def __init__(self, class_names: Sequence[str], total: int, *, mining: bool) -> None:
        self._names = tuple(class_names)
        self._mining = mining
        self._every = max(total // SHOWN, 1)
        self._images = self._unreadable = self._empty = 0
        self._per_class = np.zeros(len(self._names), np.int64)
        self._confidences = np.zeros(BINS, np.int64)
        self._per_image = np.zeros(MOST_PER_IMAGE + 1, np.int64)
        self._examples: list[_Example] = []
        self._waiting: dict[int, tuple[str, np.ndarray]] = {}
        self._scores = array("d")
        self._first: list[_Ranked] = []
        self._last: list[_Ranked] = []

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
        if prediction.position % self._every == 0 and len(self._examples) < SHOWN:
            self._examples.append(_Example(prediction.position, prediction.path, rows))
        if self._mining:
            self._waiting[prediction.position] = (prediction.path, rows)

    def scored(self, position: int, score: float | None) -> None:
        """Add the mining score of an image that was added; None for an unreadable one."""
        path, rows = self._waiting.pop(position, ("", np.zeros((0, 6), np.float32)))
        if score is None:
            return
        self._scores.append(score)
        example = _Example(position, path, rows, score)
        # Equal scores keep the order of the candidates, as in the result.
        _keep_largest(self._first, (score, -position, example))
        _keep_largest(self._last, (-score, position, example))

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
        *,
        ranking: Sequence[int] = (),
        scores: Sequence[float | None] = (),
        known: Callable[[int], Record | None] = lambda _: None,
        sheets: Path | None = None,
    ) -> None:
        """Write the page into `folder` and the images to TensorBoard; a failure is a warning.

        Of mining: `ranking` has the positions of all candidates, best first, `scores` their scores
        by position, `known` gives the record of a position, and `sheets` is a folder for contact
        sheets of both ends of the ranking.
        """
        with best_effort(PAGE, log), TensorBoardLogger(folder) as board:
            galleries = list(self._galleries(known))
            for name, _, tiles in galleries:
                sheet = contact_sheet(tiles)
                board.image(name, sheet)
                if sheets and tiles:
                    write_image(sheets / f"{name}.jpg", sheet, quality=JPEG_QUALITY)
            context = {**self._context(), "galleries": galleries}
            ranked = [position for position in ranking if scores[position] is not None]
            if ranked:
                self._add_coverage(context, ranked, scores, known)
            write_page(folder / PAGE, "candidate_report.html", **context)

    def _context(self) -> dict[str, Any]:
        filled = np.flatnonzero(self._per_image)
        most = int(filled[-1]) + 1 if len(filled) else 1
        many = f" ({MOST_PER_IMAGE} and more in one)" if most > MOST_PER_IMAGE else ""
        figures = {
            "confidences": histogram(
                self._confidences,
                np.linspace(0, 1, BINS + 1),
                title="Confidence of the detections",
                x="confidence",
                y="detections",
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
            counts, edges = np.histogram(self._scores, BINS, _range(self._scores))
            title = "Mining scores: larger means label first"
            figures["scores"] = histogram(counts, edges, title=title, x="score", y="images")
        return {
            "mining": self._mining,
            "images": self._images,
            "unreadable": self._unreadable,
            "empty": self._empty,
            "per_class": list(zip(self._names, self._per_class.tolist(), strict=True)),
            "class_colours": class_colours(self._names),
            "figures": {name: png_uri(figure_png(figure)) for name, figure in figures.items()},
            "most_rows": MOST_ROWS,
            "coverage": [],
        }

    def _add_coverage(
        self,
        context: dict[str, Any],
        ranked: Sequence[int],
        scores: Sequence[float | None],
        known: Callable[[int], Record | None],
    ) -> None:
        """Add what helps to choose k, the number of images to label."""
        falling = [score for position in ranked if (score := scores[position]) is not None]
        first = ranked[:MOST_COVERED]
        steps = [k for k in STEPS if k < len(first)] + [len(first)]
        table, classes = [], []
        counts = coverage(map(known, first), len(self._names))
        for k, images in enumerate(counts, start=1):
            classes.append(int((images > 0).sum()))
            if k in steps:
                table.append(images.tolist())
        title = f"Classes in the first k images (of {len(self._names)})"
        rank = line(falling, title="Score by rank", x="rank", y="score")
        covered = line(classes, title=title, x="k", y="classes", counts=True)
        context["figures"] |= {
            "rank": png_uri(figure_png(rank)),
            "coverage": png_uri(figure_png(covered)),
        }
        context["coverage"] = list(zip(self._names, *table, strict=True))
        context["coverage_header"] = ("class", *(f"k = {k:,}" for k in steps))

    def _galleries(
        self, known: Callable[[int], Record | None]
    ) -> Iterator[tuple[str, str, list[Tile]]]:
        if self._mining:
            first = [row[2] for row in sorted(self._first, reverse=True)]
            last = [row[2] for row in sorted(self._last)]
            yield "first", "Label these first", list(self._tiles(first, known))
            yield "last", "Label these last", list(self._tiles(last, known))
        else:
            examples = sorted(self._examples, key=lambda example: example.position)
            yield "examples", "Examples", list(self._tiles(examples, known))

    def _tiles(
        self, examples: Sequence[_Example], known: Callable[[int], Record | None]
    ) -> Iterator[Tile]:
        for example in examples:
            try:
                image = read_image(example.path)
            except ImageError:
                continue
            rows, name = example.detections, shorten(PurePath(example.path).name)
            entry = known(example.position) if self._mining else None
            breakdown = (entry.scored or {}).get("breakdown") if entry else None
            shown = f"{len(rows)} detections"
            if example.score is not None:
                shown = f"score {example.score:.3f}"
            if isinstance(breakdown, dict):
                shown += f", {breakdown_words(breakdown)}"
            boxes, classes = rows[:, :4], rows[:, 5].astype(int)
            tile = annotated_tile(
                image, f"{name}: {shown}", boxes, classes, self._names, rows[:, 4]
            )
            if isinstance(breakdown, dict):
                scale = min(TILE_SIDE / max(image.shape[:2]), 1.0)
                tile = mark_deciding(tile, breakdown, scale)
            yield tile


def breakdown_words(breakdown: Mapping[str, object]) -> str:
    """Return the view and the terms that decided a score of cald."""
    view = breakdown.get("view", "")
    if "iou" not in breakdown:
        return f"{view}: nothing detected again"
    if "divergence" not in breakdown:
        return f"{view}: object lost"
    return f"{view}: IoU {breakdown['iou']:.2f}, divergence {breakdown['divergence']:.2f}"


def coverage(records: Iterable[Record | None], classes: int) -> Iterator[np.ndarray]:
    """Yield after each record the number of images so far with each class, int64 [classes]."""
    images = np.zeros(classes, np.int64)
    for record in records:
        found = (record.detections[:, 5] if record else np.zeros(0)).astype(np.int64)
        images[np.unique(found[(found >= 0) & (found < classes)])] += 1
        yield images.copy()


def _keep_largest(heap: list[_Ranked], entry: _Ranked) -> None:
    """Hold the `SHOWN` largest entries; positions differ, so examples are never compared."""
    if len(heap) < SHOWN:
        heapq.heappush(heap, entry)
    else:
        heapq.heappushpop(heap, entry)


def _range(scores: Sequence[float]) -> tuple[float, float]:
    """Return the lowest and the highest score, with some room where they hardly differ."""
    low, high = (min(scores), max(scores)) if scores else (0.0, 1.0)
    return (low, high) if high - low > 0.001 else (low - 0.005, high + 0.005)
