"""Diverse mining: a base score, weighted by the distance to the images ranked above.

The images with the largest base scores are ranked anew in the farthest-first order of their
backbone features (`mining/diversity.py`): near-duplicates of a chosen image come late.
"""

from __future__ import annotations

import heapq
import logging
import math
from collections.abc import Iterable, Iterator

import numpy as np

from inference.predictions import Prediction
from mining.diversity import UNIT, Features, collect_features, farthest_first
from mining.mining_cald import cald_scores
from mining.mining_entropy import EMPTY_LAST, entropy_scores
from mining.scores import Algorithm, Scored, ScoringContext, Stream, place_empty

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
    if window_size(context.settings.diverse_window, context.total):
        predictions = collect_features(predictions, context, features)
    base_scores = cald_scores if context.settings.diverse_score == "cald" else entropy_scores
    for scored in base_scores(predictions, context):
        feature = features.pop(scored.position, None)
        yield scored if scored.score is None else scored._replace(feature=feature)


def rank_diverse(scores: Iterable[Scored], context: ScoringContext) -> Stream:
    """Rank the images of the window above all others, farthest first."""
    settings = context.settings
    features: Features = {}
    window = window_size(settings.diverse_window, context.total)
    if settings.diverse_score == "cald":
        largest, last = 1.0, 0.0
    else:
        # Every detection adds less than 1.
        largest, last = float(context.network.config.nms.max_detections), EMPTY_LAST
    log.info(
        "diverse: farthest-first order of the %d best images by %s", window, settings.diverse_score
    )
    return place_empty(
        rank_window(_split_features(scores, features), features, window, largest),
        settings.empty_images,
        first=largest + 2,
        last=last,
        seed=settings.seed,
    )


def _split_features(scores: Iterable[Scored], features: Features) -> Iterator[Scored]:
    """Pass the scores on and move each image's feature to `features`."""
    for scored in scores:
        if scored.feature is not None:
            features[scored.position] = scored.feature
        yield scored._replace(feature=None)


def window_size(setting: int, candidates: int) -> int:
    """Return the size of the window: `setting`, or with -1 a fourth of the candidates, at most
    `DEFAULT_LIMIT`.
    """
    if setting >= 0:
        return setting
    return min(math.ceil(DEFAULT_SHARE * candidates), DEFAULT_LIMIT)


def rank_window(
    stream: Iterable[Scored], features: Features, window: int, largest: float
) -> Iterator[Scored]:
    """Give the `window` images of the largest scores new ones, above `largest`.

    With w an image's score as a fraction of the window's best, and d its distance to the nearest
    image ranked above (0 to 1), the new score is

        largest + w * d + STEP * images of the window ranked below

    and d = 1 for the first. Scores from 0 to `largest` are expected. Images without a score and
    those that leave the window pass unchanged; of equal scores the earlier name stays in and comes
    first. Features are removed from `features` as images pass.
    """
    best: list[tuple[float, _ReverseOrder, int, Scored, np.ndarray]] = []
    for scored in stream:
        feature = features.pop(scored.position, None)
        if scored.score is None or window == 0:
            yield scored
            continue
        assert feature is not None, "an image with a score has a feature"
        entry = (scored.score, _ReverseOrder(scored.path), -scored.position, scored, feature)
        if len(best) < window:
            heapq.heappush(best, entry)
        else:
            yield heapq.heappushpop(best, entry)[3]
    if not best:
        return
    best.sort(reverse=True)
    weights = np.array([entry[0] for entry in best])
    top = weights.max()
    weights = weights / top if top > 0 else np.ones(len(best))
    order, gains = farthest_first(weights, np.stack([entry[4] for entry in best]), UNIT)
    below = STEP * np.arange(len(best) - 1, -1, -1)
    for index, own in zip(order.tolist(), (largest + gains + below).tolist(), strict=True):
        yield best[index][3]._replace(score=own)


ALGORITHM = Algorithm(diverse_scores, rank_diverse)
