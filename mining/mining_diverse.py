"""Diverse mining: a base score, weighted by the distance to the images ranked above.

The images with the largest base scores are ranked anew in the farthest-first order of their
backbone features (`mining/diversity.py`): near-duplicates of a chosen image come late.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable

import numpy as np

from inference.predictions import Prediction
from mining.diversity import UNIT, Features, collect_features, farthest_first
from mining.mining_cald import cald_scores
from mining.mining_entropy import EMPTY_LAST, entropy_scores
from mining.scores import (
    Algorithm,
    Scored,
    ScoringContext,
    Stream,
    place_empty,
    rank_window,
    window_size,
)

log = logging.getLogger(__name__)

DEFAULT_SHARE, DEFAULT_LIMIT = 0.25, 10_000
STEP = 2e-6
"""Each image of the window is at least this far above the next: result.tsv has six digits."""


class _ReverseOrder(str):
    """A string with reversed order, so that of equal scores the earlier name is larger."""

    __slots__ = ()

    def __lt__(self, other: str) -> bool:
        return str.__gt__(self, other)


def diverse_scores(predictions: Iterable[Prediction], context: ScoringContext) -> Stream:
    """Yield the base score of every image, with its feature.

    Base scores are CALD's first stage or the entropy of the detections, by the setting
    `diverse_score`.
    """
    features: Features = {}
    if _window(context):
        predictions = collect_features(predictions, context, features)
    base_scores = cald_scores if context.settings.diverse_score == "cald" else entropy_scores
    for scored in base_scores(predictions, context):
        feature = features.pop(scored.position, None)
        yield scored if scored.score is None else scored._replace(feature=feature)


def rank_diverse(scores: Iterable[Scored], context: ScoringContext) -> Stream:
    """Rank the images of the window above all others, farthest first."""
    settings, window = context.settings, _window(context)
    if settings.diverse_score == "cald":
        largest, last = 1.0, 0.0
    else:
        # Every detection adds less than 1.
        largest, last = float(context.network.config.nms.max_detections), EMPTY_LAST
    log.info(
        "diverse: farthest-first order of the %d best images by %s", window, settings.diverse_score
    )
    spread = spread_window(scores, window, largest)
    return place_empty(spread, settings, first=largest + 2, last=last)


def _window(context: ScoringContext) -> int:
    return window_size(
        context.settings.diverse_window, context.total, DEFAULT_SHARE, limit=DEFAULT_LIMIT
    )


def spread_window(stream: Iterable[Scored], window: int, largest: float) -> Stream:
    """Give the `window` images of the largest scores new ones, above `largest`.

    With w an image's score as a fraction of the window's best, and d its distance to the nearest
    image ranked above (0 to 1), the new score is

        largest + w * d + STEP * images of the window ranked below

    and d = 1 for the first. Scores from 0 to `largest` are expected; of equal ones the earlier
    name stays in and comes first.
    """

    def new_scores(images: list[Scored]) -> list[float]:
        weights = np.array([one.score for one in images])
        top = weights.max()
        weights = weights / top if top > 0 else np.ones(len(images))
        points = np.stack([one.feature for one in images if one.feature is not None])
        order, gains = farthest_first(weights, points, UNIT)
        scores = np.zeros(len(images))
        scores[order] = largest + gains + STEP * np.arange(len(images) - 1, -1, -1)
        return scores.tolist()

    return rank_window(
        stream,
        window,
        new_scores,
        key=lambda one: (one.score, _ReverseOrder(one.path), -one.position),
    )


ALGORITHM = Algorithm(diverse_scores, rank_diverse)
