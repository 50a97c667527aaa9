"""What an algorithm says of one image, and its parts put together again."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from mining.data_augment import image_generator

UNREADABLE_SCORE = -1.0
"""Written for an image that cannot be read; less, where other scores are below 0."""

Report = Callable[[int, int], object]
"""Told (images done, images in all)."""


class Scored(NamedTuple):
    """The score of one image of a stream; larger means «label me first».

    The score is None for an image that cannot be read, and for one without objects (`empty`) as
    long as `place_empty` has not given it one.
    """

    position: int
    path: str
    score: float | None
    empty: bool = False
    class_vector: np.ndarray | None = None
    """float [classes], where an algorithm looks at classes: its objects' largest confidences."""
    why: dict[str, object] | None = None
    """What decided, in plain values, where an algorithm tells: of the part with the score."""
    feature: np.ndarray | None = None
    """float32 [64], whole numbers: what the image looks like, where an algorithm compares images
    (`mining/diversity.py`)."""


class ScoredPart(NamedTuple):
    """The score of one of `parts` parts of an image; None where it shows no object."""

    position: int
    path: str
    parts: int
    score: float | None
    unreadable: bool = False
    class_vector: np.ndarray | None = None
    why: dict[str, object] | None = None


def best_of_parts(parts: Iterable[ScoredPart]) -> Iterator[Scored]:
    """One score per image, once its last part is scored: the largest of those with objects.

    Class vectors are joined by their largest entries.
    """
    waiting: dict[int, list[ScoredPart]] = {}
    for part in parts:
        own = waiting.setdefault(part.position, [])
        own.append(part)
        if len(own) < part.parts:
            continue
        del waiting[part.position]
        scores = [each.score for each in own if each.score is not None]
        told = [each for each in own if each.score is not None and each.why is not None]
        vectors = [each.class_vector for each in own if each.class_vector is not None]
        yield Scored(
            part.position,
            part.path,
            max(scores, default=None),
            empty=not scores and not part.unreadable,
            class_vector=np.max(vectors, axis=0) if vectors else None,
            why=max(told, key=lambda each: each.score or 0.0).why if told else None,
        )


def place_empty(
    stream: Iterable[Scored], rule: str, *, first: float, last: float, seed: int
) -> Iterator[Scored]:
    """The same stream with scores for the images without objects, by the setting `empty_images`.

    They get the score `first` or `last`, or with `mixed` wait for the end and are then spread
    evenly through the ranking: each gets the score at a random share of the others' order. The
    share depends on `seed` and the image's name only.
    """
    others, waiting = array("d"), []
    for scored in stream:
        if not scored.empty:
            if scored.score is not None and rule == "mixed":
                others.append(scored.score)
            yield scored
        elif rule == "mixed":
            waiting.append(scored)
        else:
            yield scored._replace(score=first if rule == "first" else last)
    if not waiting:
        return
    shares = [image_generator(seed, one.path, "empty").random() for one in waiting]
    levels = np.quantile(others or [last, first], shares)
    for one, level in zip(waiting, levels.tolist(), strict=True):
        yield one._replace(score=level)


def counted(stream: Iterable[Scored], total: int, tell: Report | None) -> Iterator[Scored]:
    """The same stream; `tell` hears of every image as it passes."""
    for done, scored in enumerate(stream, 1):
        if tell:
            tell(done, total)
        yield scored


def in_order(stream: Iterable[Scored], paths: Sequence[str]) -> list[tuple[str, float]]:
    """(path, score) of every image of a stream, in the order of `paths`.

    An unreadable image has `UNREADABLE_SCORE`, or 1 less than the lowest score below 0.
    """
    scores: list[float | None] = [None] * len(paths)
    for scored in stream:
        scores[scored.position] = scored.score
    last = min([0.0, *(s for s in scores if s is not None)]) + UNREADABLE_SCORE
    return [(path, last if s is None else s) for path, s in zip(paths, scores, strict=True)]
