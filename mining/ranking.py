"""The ranking of all candidates: scores of an algorithm, draws between equal ones, and the order by
diversity alone where detections carry nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from inference.journal import Record
from inference.predictions import Prediction
from mining.diversity import (
    DEFAULT_LIMIT,
    STEP,
    UNIT,
    Features,
    collect_features,
    farthest_first,
)
from mining.scores import (
    Algorithm,
    Scored,
    ScoringContext,
    Stream,
    tie_draw,
    unreadable_score,
)

log = logging.getLogger(__name__)

LookAgain = Callable[[Sequence[int]], Iterable[Prediction]]
"""Rising positions to the predictions of these images, with their network inputs."""


@dataclass(frozen=True)
class Ranking:
    """The final scores of all candidates, and their order."""

    scores: Sequence[float | None]
    """By position; None for an unreadable image."""
    order: Sequence[int]
    """Positions, best first."""
    breakdowns: dict[int, dict[str, object]] = field(default_factory=dict)
    """By position: what the ranking of all adds to an image's breakdown."""
    note: str = ""
    """A sentence where this is no ranking by the algorithm."""
    own: Sequence[float | None] = ()
    """By position: the algorithm's own score, before what looks at all images; None without one."""

    def rows(self) -> Iterator[tuple[int, float]]:
        """Yield (position, score), best first, with a score for unreadable images."""
        last = unreadable_score(self.scores)
        for position in self.order:
            score = self.scores[position]
            yield position, last if score is None else score

    def explained(self, record: Record | None) -> Record | None:
        """Return a record with what the ranking adds to its breakdown."""
        if record is None or record.scored is None:
            return record
        own = None if self.note else record.scored.get("breakdown")
        added = self.breakdowns.get(record.position)
        both = {**own, **(added or {})} if isinstance(own, dict) else added
        return replace(record, scored={**record.scored, "breakdown": both})


def ranking_order(scores: Sequence[float | None], paths: Sequence[str], seed: int) -> list[int]:
    """Return the positions of all candidates, best first, those without a score last.

    A draw decides between scores that are equal in the six digits written, whatever the order of
    the candidates.
    """
    by_path = np.array(sorted(range(len(paths)), key=lambda n: (paths[n], n)), np.int64)
    written = np.array([-np.inf if s is None else round(s, 6) for s in scores], np.float64)
    draws = np.array([tie_draw(seed, path) for path in paths], np.uint64)
    order: list[int] = by_path[np.lexsort((~draws[by_path], -written[by_path]))].tolist()
    return order


def rank_images(
    stream: Iterable[Scored],
    algorithm: Algorithm,
    context: ScoringContext,
    paths: Sequence[str],
    look_again: LookAgain,
) -> Ranking:
    """Rank all images of a stream of scores, one for each of `paths`.

    Where no score of an algorithm that uses the network differs from another, the order is by
    diversity alone, for as many as `DEFAULT_LIMIT` that a draw chooses; the log says so.
    """
    seen, seed = _Observer(len(paths)), context.settings.seed
    scores: list[float | None] = [None] * len(paths)
    breakdowns = {}
    for one in algorithm.rank(seen.watch(stream), context):
        scores[one.position] = one.score
        if one.breakdown:
            breakdowns[one.position] = one.breakdown
    if not (context.settings.needs_network and seen.says_nothing):
        return Ranking(scores, ranking_order(scores, paths, seed), breakdowns, own=seen.own)
    readable = [n for n, score in enumerate(scores) if score is not None]
    by_draw = ranking_order([0.0 if s is not None else None for s in scores], paths, seed)
    window = by_draw[: min(len(readable), DEFAULT_LIMIT)]
    for position in readable:
        scores[position] = 0.0
    note = seen.note(context, algorithm)
    log.warning("%s", note)
    breakdowns = {}
    features: Features = {}
    for _ in collect_features(look_again(sorted(window)), context, features):
        pass
    known = [n for n in window if n in features]
    points = np.stack([features[n] for n in known]) if known else np.zeros((0, 1), np.float32)
    least = context.settings.least_distance
    found = farthest_first(np.ones(len(known)), points, UNIT, least=least)
    for rank, index in enumerate(found.points):
        scores[known[index]] = float(found.gains[rank]) + STEP * (len(known) - rank)
        breakdowns[known[index]] = {"distance": round(float(found.distances[rank]), 6)}
        if found.nearest[rank] >= 0:
            breakdowns[known[index]]["nearest"] = known[found.nearest[rank]]
    order = ranking_order(scores, paths, seed)
    return Ranking(scores, order, breakdowns, note, seen.own)


class _Observer:
    """Whether the scores of readable images differ, in the six digits written."""

    def __init__(self, total: int) -> None:
        self.own: list[float | None] = [None] * total
        self._first: float | None = None
        self._images, self._differ, self._found = 0, False, False

    def watch(self, stream: Iterable[Scored]) -> Stream:
        """Pass scores on, without their breakdowns."""
        for one in stream:
            self.own[one.position] = one.score
            if one.empty or one.score is not None:
                own = None if one.score is None else round(one.score, 6)
                self._differ |= self._images > 0 and own != self._first
                self._first, self._images = own, self._images + 1
                vector = one.class_vector
                self._found |= not one.empty and (vector is None or bool(vector.any()))
            yield one._replace(breakdown=None)

    @property
    def says_nothing(self) -> bool:
        """Whether there are several images, all of one score or all empty."""
        return self._images > 1 and not self._differ

    def note(self, context: ScoringContext, algorithm: Algorithm) -> str:
        """Return the sentence that tells it, and what to do."""
        what = "all %d images have the same score"
        if not self._found:
            what = "nothing was found in any of the %d images"
        setting = algorithm.threshold
        lower = f", lower {setting} (now {getattr(context.settings, setting):g})" if setting else ""
        return (
            f"{what % self._images}: this is no ranking by "
            f"{context.settings.mining_algorithm} but by the differences of the images alone; "
            f"train longer{lower}, or label the first images and mine again: they are in the order "
            "of diverse, which needs no detections."
        )
