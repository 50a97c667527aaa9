"""The report of mining and inference: the ranking, counts, scores and examples on one page."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from data.images import write_image
from inference.predictions import Prediction
from reporting.candidate_counts import BINS, MOST_PER_IMAGE, CandidateCounts
from reporting.drawing import class_colours, read_if_possible, shorten
from reporting.page import PAGE, SHEET_QUALITY, chart_uri, environment, write_page
from reporting.plots import histogram
from reporting.ranking_report import (
    Known,
    RankingLike,
    RankingReport,
    breakdown_words,
    thinned,
)
from reporting.tensorboard import TensorBoardLogger
from reporting.tiles import TILE_SIDE, ImageName, Tile, annotated_tile, contact_sheet, mark_deciding
from utils.errors import best_effort
from utils.language.catalogue import ENGLISH
from utils.logs import counted

log = logging.getLogger(__name__)

SHOWN = 12
"""Images of each gallery."""
MOST_ROWS = 25
"""Classes listed openly; more are folded."""
MOST_BOXES = 6
"""Detections of an image of a ranking that are drawn, beside the box that decided."""
WITHOUT_SHOWN = 4
"""Images without detections in the report of an inference."""
AROUND = 3.0
"""Side of the part of an image around a detection, as a multiple of the detection's."""
LEAST_AROUND = 96
"""Pixels of that side at least."""


@dataclass(frozen=True)
class About:
    """What made the detections: for the page."""

    algorithm: str = ""
    """Of mining."""
    rows: Sequence[tuple[str, str]] = ()
    """Weights, sizes, device and time by name."""
    settings: Sequence[Sequence[str]] = ()
    """Name, value, default and meaning."""
    names: Mapping[str, str] = field(default_factory=dict)
    """Original names of image files by path, where a platform renamed them."""
    language: str = ENGLISH
    """Of the page."""


class CandidateReport:
    """Count the predictions of a task as they pass, and write a page; memory stays the same."""

    def __init__(
        self,
        class_names: Sequence[str],
        *,
        mining: bool,
        infers: bool = False,
        upright: bool = False,
    ) -> None:
        """Take what the task is: `mining`, and whether it also `infers`; without both it infers."""
        self._names = tuple(class_names)
        self._mining, self._upright = mining, upright
        self._infers = infers or not mining
        self.counts = CandidateCounts(class_names)

    def add(self, prediction: Prediction) -> None:
        """Count the detections of one image."""
        self.counts.add(prediction)

    def summary(self) -> str:
        """Return the counts in one line."""
        return self.counts.summary()

    def write(
        self,
        folder: Path,
        known: Known = lambda position: None,
        *,
        ranking: RankingLike | None = None,
        about: About | None = None,
        sheets: Path | None = None,
        tensorboard: bool = True,
    ) -> None:
        """Write the page into `folder`, with images and curves for TensorBoard; a failure is a
        warning.

        Of mining: `ranking` has all candidates, of which the record is `known`, and `sheets` is a
        folder for contact sheets of both ends of the ranking.
        """
        about = about or About()
        with best_effort(PAGE, log), TensorBoardLogger(folder if tensorboard else None) as board:
            context: dict[str, Any] = {"note": "", "bend": 0, "listed": [], "coverage": []}
            figures, galleries = self._figures(), list[tuple[str, str, list[Tile]]]()
            if ranking is not None:
                context["note"] = ranking.note
                report = RankingReport(ranking, self._names, about.names)
                if report.positions:
                    context |= report.read(known)
                    figures |= report.figures()
                    galleries += self._ranked(report, known)
                    for name, values in report.curves().items():
                        board.curve(name, thinned(values))
            if self._infers:
                galleries += self._by_confidence(about.names)
            for name, _, tiles in galleries:
                sheet = contact_sheet(tiles)
                board.image(name, sheet)
                if sheets and tiles:
                    write_image(sheets / f"{name}.jpg", sheet, quality=SHEET_QUALITY)
            header, per_class = self.counts.table()
            write_page(
                folder / PAGE,
                "mining_report.html" if self._mining else "inference_report.html",
                language=about.language,
                about=about,
                counts=self.counts,
                header=header,
                per_class=per_class,
                class_colours=class_colours(self._names),
                figures={
                    name: chart_uri(figure, about.language) for name, figure in figures.items()
                },
                most_rows=MOST_ROWS,
                galleries=galleries,
                environment=environment(),
                **context,
            )

    def _figures(self) -> dict[str, Figure]:
        """Return the figures of the detections."""
        counts = self.counts
        filled = np.flatnonzero(counts.per_image)
        most = int(filled[-1]) + 1 if len(filled) else 1
        many = f" ({MOST_PER_IMAGE} and more in one)" if most > MOST_PER_IMAGE else ""
        return {
            "confidences": histogram(
                counts.by_confidence.sum(0),
                np.linspace(0, 1, BINS + 1),
                title="Confidence of the detections",
                x="confidence",
                y="detections",
            ),
            "per_image": histogram(
                counts.per_image[:most],
                np.arange(most + 1) - 0.5,
                title="Detections per image",
                x=f"detections{many}",
                y="images",
            ),
        }

    def _ranked(self, report: RankingReport, known: Known) -> Iterator[tuple[str, str, list[Tile]]]:
        """Yield the galleries of a ranking: identifier, heading and images."""
        places = list(enumerate(report.positions, start=1))
        groups = report.groups.largest()
        place_of = {n: place for place, n in places} if groups else {}
        for name, heading, chosen in (
            ("first", "Label these first", places[:SHOWN]),
            ("last", "Label these last", places[-SHOWN:]),
            ("alike", "The largest groups of alike images", [(place_of[n], n) for n in groups]),
        ):
            if chosen or name != "alike":
                yield name, heading, list(self._ranked_tiles(chosen, report, known))

    def _ranked_tiles(
        self, places: Iterable[tuple[int, int]], report: RankingReport, known: Known
    ) -> Iterator[Tile]:
        """Yield the images of these ranks and positions that can still be read.

        Of many detections those are drawn that matter: what decided, and the most uncertain.
        """
        for rank, position in places:
            record, score = known(position), report.ranking.own[position]
            image = read_if_possible(record.path, upright=self._upright) if record else None
            if record is None or image is None:
                continue
            scored = (record.scored or {}).get("breakdown")
            breakdown = scored if isinstance(scored, dict) else {}
            rows = chosen_rows(record.detections, breakdown)
            words = [] if score is None else [f"own score {score:.3f}"]
            words += filter(None, [breakdown_words(breakdown, self._names)])
            total = len(record.detections)
            all_shown = counted(total, "%s detection", "%s detections")
            part_shown = f"{len(rows)} of {total} detections shown"
            words.append(all_shown if len(rows) == total else part_shown)
            name = ImageName.of(record.path, report.names)
            tile = self._tile(image, f"{rank}. {name.short}: {', '.join(words)}", rows, name)
            frames = [replace(one, thickness=1) for one in tile.outlines]
            scale = min(TILE_SIDE / max(image.shape[:2]), 1.0)
            yield mark_deciding(replace(tile, outlines=frames), breakdown, scale)

    def _tile(self, image: np.ndarray, caption: str, rows: np.ndarray, name: ImageName) -> Tile:
        boxes, classes = rows[:, :4], rows[:, 5].astype(int)
        return annotated_tile(
            image, caption, boxes, classes, self._names, rows[:, 4], title=name.whole
        )

    def _by_confidence(self, names: Mapping[str, str]) -> Iterator[tuple[str, str, list[Tile]]]:
        """Yield the galleries of an inference: identifier, heading and images."""
        counts = self.counts
        parts = counts.detections.low_to_high(SHOWN)
        tiles = (self._part(image, row, names) for image, row in parts)
        shown = list(filter(None, tiles))
        yield "detections-low-to-high", "Detections, from low to high confidence", shown
        for identifier, heading, examples, most in (
            ("examples", "Images, from low to high mean confidence", counts.whole, SHOWN),
            ("without", "Images without detections", counts.without, WITHOUT_SHOWN),
        ):
            tiles = (self._whole(image, names) for image, _ in examples.low_to_high(most))
            if (found := list(filter(None, tiles))) or identifier == "examples":
                yield identifier, heading, found

    def _whole(self, prediction: Prediction, names: Mapping[str, str]) -> Tile | None:
        """Return an image with its detections; None where its file is gone."""
        image = read_if_possible(prediction.path, upright=self._upright)
        if image is None:
            return None
        rows, name = prediction.detections, ImageName.of(prediction.path, names)
        if not len(rows):
            return self._tile(image, name.short, rows, name)
        low, high = rows[:, 4].min(), rows[:, 4].max()
        spread = f"{low:.2f}" if len(rows) == 1 else f"{low:.2f}–{high:.2f}"
        count = counted(len(rows), "%s detection", "%s detections")
        return self._tile(image, f"{name.short}: {count}, {spread}", rows, name)

    def _part(self, prediction: Prediction, row: int, names: Mapping[str, str]) -> Tile | None:
        """Return the part of an image around one detection; None where its file is gone."""
        image = read_if_possible(prediction.path, upright=self._upright)
        if image is None:
            return None
        own = prediction.detections[row : row + 1]
        left, top, right, bottom = own[0, :4].astype(float)
        half = max(AROUND * max(right - left, bottom - top), LEAST_AROUND) / 2
        height, width = image.shape[:2]
        x1, y1 = (  # moved into the image, so that all parts have one shape
            int(max(min((a + b) / 2 - half, side - 2 * half), 0))
            for a, b, side in ((left, right, width), (top, bottom, height))
        )
        part = np.ascontiguousarray(image[y1:, x1:][: int(2 * half) + 1, : int(2 * half) + 1])
        moved = own.copy()
        moved[:, :4] -= (x1, y1, x1, y1)
        index = int(own[0, 5])
        named = shorten(self._names[index]) if index < len(self._names) else f"class {index}"
        name = ImageName.of(prediction.path, names)
        return self._tile(part, f"{own[0, 4]:.2f} {named}: {name.short}", moved, name)


def chosen_rows(rows: np.ndarray, breakdown: Mapping[str, object]) -> np.ndarray:
    """Return the detections of an image [n, 6] that matter for its rank, at most `MOST_BOXES`.

    Of more, the one that decided and those of a confidence nearest to 0.5.
    """
    if len(rows) <= MOST_BOXES:
        return rows
    order = np.abs(rows[:, 4] - 0.5)
    box = breakdown.get("box")
    if isinstance(box, list | tuple):
        order[np.abs(rows[:, :4] - np.array(box, np.float64)).sum(1).argmin()] = -1
    return rows[np.sort(np.argsort(order, kind="stable")[:MOST_BOXES])]
