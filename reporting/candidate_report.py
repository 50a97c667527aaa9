"""What mining and inference show of themselves: counts, scores and examples on one page."""

from __future__ import annotations

import heapq
import logging
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path, PurePath
from typing import NamedTuple

import numpy as np

from data.images import ImageError, read_image, write_image
from inference.journal import Entry
from inference.predictions import Prediction
from reporting.colours import SERIES, series_colour
from reporting.drawing import Tile, draw_boxes, fitted, sheet
from reporting.lettering import shortened
from reporting.page import Page
from reporting.ranking_report import add_choice
from reporting.svg import histogram
from reporting.tensorboard import TensorBoardLogger
from reporting.view_boxes import DECIDED, draw_deciding, words_of
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


class _Example(NamedTuple):
    position: int
    path: str
    detections: np.ndarray
    score: float | None = None


class CandidateReport:
    """Looks at the predictions and scores of a task as they pass, and then writes a page.

    Memory stays the same however many images there are, apart from eight bytes a score.
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
        self._known: Callable[[int], Entry | None] = lambda _: None
        self._first: list[tuple[float, int, _Example]] = []
        self._last: list[tuple[float, int, _Example]] = []

    def watch(self, predictions: Iterable[Prediction]) -> Iterator[Prediction]:
        """Pass predictions on after counting what is in them."""
        for prediction in predictions:
            self.add(prediction)
            yield prediction

    def add(self, prediction: Prediction) -> None:
        """Count what is in one prediction."""
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

    def summary(self) -> str:
        """What was seen, in one line: images, objects, and how many of each frequent class."""
        order = np.argsort(-self._per_class, kind="stable")[:CLASSES_NAMED]
        named = [f"{self._names[i]} {self._per_class[i]}" for i in order if self._per_class[i]]
        objects = int(self._per_class.sum())
        listed = f" ({', '.join(named)}{', ...' if len(self._names) > CLASSES_NAMED else ''})"
        return (
            f"{self._images} images ({self._unreadable} unreadable, {self._empty} without objects)"
            f", {objects} objects{listed if named else ''}"
        )

    def scored(self, position: int, score: float | None) -> None:
        """The mining score of one image that was watched; None for one that cannot be read."""
        path, rows = self._waiting.pop(position, ("", np.zeros((0, 6), np.float32)))
        if score is None:
            return
        self._scores.append(score)
        example = _Example(position, path, rows, score)
        # Equal scores keep the order of the candidates, as in the result.
        _keep(self._first, (score, -position, example))
        _keep(self._last, (-score, position, example))

    def write(
        self,
        folder: Path,
        *,
        scores: Sequence[float | None] = (),
        known: Callable[[int], Entry | None] = lambda _: None,
        sheets: Path | None = None,
    ) -> None:
        """Leave the page in `folder`, and its pictures in TensorBoard; a failure is a warning.

        Of mining: `scores` of all candidates, what is `known` of each position, and a folder for
        the contact sheets of both ends of the ranking.
        """
        self._known = known
        with best_effort(PAGE, log):
            page = self._page()
            if scores:
                add_choice(page, scores, self._classes_of, self._names)
            with TensorBoardLogger(folder) as board:
                for name, title, tiles in self._galleries():
                    page.section(title)
                    if self._mining:
                        page.text(DECIDED)
                    if len(self._names) <= len(SERIES):
                        page.key([(series_colour(c), name) for c, name in enumerate(self._names)])
                    page.gallery(tiles)
                    board.image(name, sheet(tiles))
                    if sheets and tiles:
                        write_image(sheets / f"{name}.jpg", sheet(tiles), quality=JPEG_QUALITY)
            page.write(folder / PAGE)

    def _classes_of(self, position: int) -> np.ndarray:
        entry = self._known(position)
        return (entry.detections[:, 5] if entry else np.zeros(0)).astype(np.int64)

    def _page(self) -> Page:
        kind = "Mining" if self._mining else "Inference"
        page = Page(f"{kind} report", f"{self._images:,} images, {len(self._names)} classes.")
        page.numbers(
            [
                ("images", f"{self._images:,}"),
                ("objects detected", f"{int(self._per_class.sum()):,}"),
                ("images without detections", f"{self._empty:,}"),
                ("images that could not be read", f"{self._unreadable:,}"),
            ]
        )
        page.section("Detections")
        page.bars(
            ("class", "detections"),
            [(name, (int(n),)) for name, n in zip(self._names, self._per_class, strict=True)],
            folded=f"All {len(self._names)} classes" if len(self._names) > MOST_ROWS else "",
        )
        edges = np.linspace(0, 1, BINS + 1)
        filled = np.flatnonzero(self._per_image)
        most = int(filled[-1]) + 1 if len(filled) else 1
        charts = [
            histogram(
                self._confidences,
                edges,
                title="Confidence of the detections",
                x_label="confidence",
                y_label="detections",
            ),
            histogram(
                self._per_image[:most],
                np.arange(most + 1),
                title="Detections per image",
                x_label=f"detections ({MOST_PER_IMAGE} and more in one)"
                if most > MOST_PER_IMAGE
                else "detections",
                y_label="images",
            ),
        ]
        if self._mining:
            counts, borders = np.histogram(self._scores, BINS, _range(self._scores))
            charts.insert(
                0,
                histogram(
                    counts,
                    borders,
                    title="Mining scores: larger means label first",
                    x_label="score",
                    y_label="images",
                ),
            )
        page.charts(charts)
        return page

    def _galleries(self) -> Iterator[tuple[str, str, list[Tile]]]:
        if self._mining:
            first = [row[2] for row in sorted(self._first, reverse=True)]
            last = [row[2] for row in sorted(self._last)]
            yield "first", "Label these first", self._tiles(first)
            yield "last", "Label these last", self._tiles(last)
        else:
            examples = sorted(self._examples, key=lambda example: example.position)
            yield "examples", "Examples, evenly over the candidates", self._tiles(examples)

    def _tiles(self, examples: Sequence[_Example]) -> list[Tile]:
        tiles = []
        for example in examples:
            try:
                small, scale = fitted(read_image(example.path))
            except ImageError:
                continue
            rows = example.detections
            drawn = draw_boxes(
                small, rows[:, :4] * scale, rows[:, 5].astype(int), self._names, rows[:, 4]
            )
            entry = self._known(example.position) if self._mining else None
            why = (entry.scored or {}).get("breakdown") if entry else None
            if isinstance(why, dict):
                drawn = draw_deciding(drawn, why, scale)
            name = shortened(PurePath(example.path).name)
            told = (
                f"{len(rows)} detected" if example.score is None else f"score {example.score:.3f}"
            )
            if isinstance(why, dict):
                told += f", {words_of(why)}"
            tiles.append(Tile(drawn, f"{name}: {told}"))
        return tiles


def _keep(heap: list[tuple[float, int, _Example]], entry: tuple[float, int, _Example]) -> None:
    """Hold the `SHOWN` largest entries; positions differ, so examples are never compared."""
    if len(heap) < SHOWN:
        heapq.heappush(heap, entry)
    else:
        heapq.heappushpop(heap, entry)


def _range(scores: Sequence[float]) -> tuple[float, float]:
    """From the lowest to the highest score, with some room where they hardly differ."""
    low, high = (min(scores), max(scores)) if scores else (0.0, 1.0)
    return (low, high) if high - low > 0.001 else (low - 0.005, high + 0.005)
