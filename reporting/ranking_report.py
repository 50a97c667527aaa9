"""What a mining ranking says: how many images to label, which ones, and how varied they are."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import PurePath
from typing import Any, NamedTuple, Protocol

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from inference.journal import Record
from reporting.plots import line
from reporting.tiles import ImageName

log = logging.getLogger(__name__)

MOST_COVERED = 20_000
"""First images of a ranking whose classes are counted: each is read from disk."""
LISTED = 100
"""First images that the page lists by name."""
ALIKE = 0.1
"""Images of a smaller distance are alike: so are most neighbouring frames of a clip."""
GROUPS_SHOWN, MEMBERS_SHOWN = 3, 4
"""The largest groups of alike images, and images of each."""
STEPS = (10, 30, 100, 300, 1000, 3000, 10_000)
"""The k of the table of classes among the first k images."""
BEND = 0.25
"""Distance from the straight line, as a share of the range, from which a bend of scores counts."""
FAINT = 0.05
"""Nine of ten scores within this share of the largest hardly differ."""
LOGGED = 5
"""First images that the log names."""
POINTS = 500
"""Points of a curve for TensorBoard at most."""

NO_SCORE = "No image has an own score: how many to label is up to you."
EVEN = "The own score falls evenly and names no number of images to label."
EARLY = "The own score falls fast over the first %s and slowly after them: begin with those."
LATE = "The own score stays high over the first %s and falls after them: label no more than those."
ALL_NEAR = (
    "Nine of ten own scores lie between %.3g and %.3g: so near to each other they say "
    "little; balanced and diverse also weigh how images differ."
)

Known = Callable[[int], Record | None]
"""The record of the image at a position; None if it is not known."""


class RankingLike(Protocol):
    """The ranking of all candidates; a position is a place in the list of candidates."""

    @property
    def order(self) -> Sequence[int]:
        """Positions, best first."""

    @property
    def scores(self) -> Sequence[float | None]:
        """Final scores by position; None for an unreadable image."""

    @property
    def own(self) -> Sequence[float | None]:
        """The algorithm's own scores by position, before what looks at all images; or None."""

    @property
    def note(self) -> str:
        """A sentence where this is no ranking by the algorithm."""


class ScoreFall(NamedTuple):
    """How own scores fall from the largest to the least."""

    falling: NDArray[np.float64]
    """Of the images that have one, the largest first."""
    bend: int
    """Images before the place where the fall changes; 0 where it changes nowhere."""
    early: bool
    """Whether scores fall fast before the bend, and not after it."""
    faint: bool
    """Whether they hardly differ."""

    @classmethod
    def of(cls, own: Sequence[float | None]) -> ScoreFall:
        """Find the bend: the point farthest from the line between the ends, in shares of both."""
        scores = np.sort(np.array([one for one in own if one is not None], np.float64))[::-1]
        if len(scores) < 3 or scores[0] <= scores[-1]:
            return cls(scores, 0, early=False, faint=len(scores) > 1)
        height = (scores - scores[-1]) / (scores[0] - scores[-1])
        off = height - np.linspace(1, 0, len(scores))
        at = int(np.abs(off).argmax())
        high, low = np.quantile(scores, (0.95, 0.05))
        faint = bool(high - low < FAINT * np.abs(scores).max())
        early = bool(off[at] < 0)  # then the place itself is low already
        return cls(scores, at + (not early) if abs(off[at]) >= BEND else 0, early, faint)

    def sentences(self) -> list[str]:
        """Return how many images to label, as far as the own scores tell."""
        if not len(self.falling):
            return [NO_SCORE]
        if not self.bend:
            found = [EVEN]
        else:
            shown = "image" if self.bend == 1 else f"{self.bend:,} images"
            found = [(EARLY if self.early else LATE) % shown]
        if self.faint:
            found.append(ALL_NEAR % tuple(np.quantile(self.falling, (0.05, 0.95))))
        return found


def log_ranking(ranking: RankingLike, paths: Sequence[str], names: Mapping[str, str]) -> None:
    """Log the first images and how many to label; nothing where the log says it is no ranking."""
    if ranking.note:
        return
    ranked = [(n, s) for n in ranking.order[:LOGGED] if (s := ranking.scores[n]) is not None]
    if ranked:
        first = [f"{ImageName.of(paths[n], names).name} ({score:.3f})" for n, score in ranked]
        log.info("label first: %s", ", ".join(first))
        for sentence in ScoreFall.of(ranking.own).sentences():
            log.info("%s", sentence)


@dataclass
class RankingReport:
    """The first images of a ranking, read once: names, classes, and groups of alike images."""

    ranking: RankingLike
    class_names: Sequence[str]
    names: Mapping[str, str]
    listed: list[tuple[object, ...]] = field(default_factory=list)
    """Rank, name, the platform's name if it is another one, and what decided."""

    def __post_init__(self) -> None:
        self.groups, self.fall = AlikeGroups(), ScoreFall.of(self.ranking.own)
        scores = self.ranking.scores
        self.positions = [n for n in self.ranking.order if scores[n] is not None]
        """Those of readable images, best first."""
        self.classes: list[int] = []
        """Classes among the first k images."""
        self.groups_seen: list[int] = []
        """Groups of alike images among them."""
        self.distances: list[float | None] = []

    def read(self, known: Known) -> dict[str, Any]:
        """Read the first images, and return what the page says about the choice of k."""
        first = self.positions[:MOST_COVERED]
        steps = [k for k in STEPS if k < len(first)] + [len(first)]
        table, held = [], []
        records = self._list(self.groups.watch(map(known, first)))
        for k, images in enumerate(coverage(records, len(self.class_names)), start=1):
            self.classes.append(int((images > 0).sum()))
            self.groups_seen.append(len(self.groups.members))
            if k in steps:
                table.append(images.tolist())
                held.append(len(self.groups.members))
        own = [self.ranking.own[n] for n in first]
        lowest = [min((s for s in own[:k] if s is not None), default="") for k in steps]
        of_scores = [("least own score", *lowest)] if any(s is not None for s in own) else []
        rows = list(zip(self.class_names, *table, strict=True))
        of_groups = [("groups of alike images", *held)] if self.groups.largest() else []
        return {
            "coverage": rows,
            "steps": [f"k = {k:,}" for k in steps],
            "held": [*of_scores, *of_groups],
            "alike": self.groups.words(),
            "listed": self.listed,
            "renamed": any(row[2] for row in self.listed),
            "how_many": [] if self.ranking.note else self.fall.sentences(),
            "bend": 0 if self.ranking.note else self.fall.bend,
            "early": self.fall.early,
        }

    def _list(self, records: Iterable[Record | None]) -> Iterator[Record | None]:
        """Pass records on; keep what the list of names shows of the first, and all distances."""
        for rank, (position, record) in enumerate(
            zip(self.positions, records, strict=False), start=1
        ):
            scored = (record.scored or {}) if record else {}
            breakdown = scored.get("breakdown")
            why = breakdown if isinstance(breakdown, dict) else {}
            self.distances.append(why.get("distance"))
            if rank <= LISTED and record:
                name, file = ImageName.of(record.path, self.names)
                own = self.ranking.own[position]
                shown = (
                    "" if own is None else float(own),
                    float(self.ranking.scores[position] or 0),
                )
                words = breakdown_words(why, self.class_names)
                same = PurePath(name).name == file
                self.listed.append((rank, name, "" if same else file, *shown, words))
            yield record

    @property
    def reordered(self) -> bool:
        """Whether more than the own scores decided the order."""
        own = [s for n in self.positions if (s := self.ranking.own[n]) is not None]
        return any(before < after for before, after in pairwise(own))

    def figures(self) -> dict[str, Figure]:
        """Return the charts of the choice of k, after `read`."""
        charts = {}
        if len(self.fall.falling) and not self.ranking.note:
            title = "Own score, the largest first"
            charts["own"] = line(
                self.fall.falling, title=title, x="images", y="own score", mark=self.fall.bend
            )
        known = [n for n, value in enumerate(self.distances) if value is not None]
        if self.ranking.note or known:
            title, y = "Distance to the nearest image ranked above", "distance"
            heights = [self.distances[n] or 0.0 for n in known]
            if heights:
                charts["balance"] = line(heights, title=title, x="rank", y=y)
        elif self.reordered:
            heights = [self.ranking.scores[n] or 0.0 for n in self.positions]
            title = "Final score by rank: class balance is in it"
            charts["balance"] = line(heights, title=title, x="rank", y="final score")
        title = f"Classes in the first k images (of {len(self.class_names)})"
        if any(self.classes):
            charts["coverage"] = line(
                self.classes, title=title, x="k", y="number of classes", counts=True
            )
        return charts

    def curves(self) -> dict[str, Sequence[float | None]]:
        """Return the curves for TensorBoard by name; the first value is of rank or k = 1."""
        curves: dict[str, Sequence[float | None]] = {
            "mining/score_by_rank": [self.ranking.scores[n] for n in self.positions],
            "mining/own_score_by_rank": [self.ranking.own[n] for n in self.positions],
            "mining/classes_in_first_k": self.classes,
        }
        if self.groups.members:
            curves["mining/distance_by_rank"] = self.distances
            curves["mining/groups_in_first_k"] = self.groups_seen
        return curves


def thinned(values: Sequence[float | None]) -> dict[int, float]:
    """Return at most `POINTS` of the values by rank from 1 on, the first ones all."""
    count = len(values)
    ranks = np.arange(1, count + 1)
    if count > POINTS:
        ranks = np.unique(np.geomspace(1, count, POINTS).round().astype(int))
    return {n: float(value) for n in ranks.tolist() if (value := values[n - 1]) is not None}


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
        if not several:
            return f"No two of the images ranked by distance are alike (distance below {ALIKE:g})."
        return (
            f"Groups of alike images (distance below {ALIKE:g}) among the {sum(sizes):,} images "
            f"ranked by distance: {len(sizes):,}, of which {several:,} of several images, at most "
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
